/** What keeps the store alive, in words for `weft status`. */

export interface StoreMember { name: string; isLearner: boolean; /** As far as this node knows. */ isAlive: boolean }

export interface Quorum {
  voters: number;
  /** Voters that must be there for anything to change. */
  majority: number;
  /** How many more voters may go before that. Negative: that many are missing. */
  spare: number;
  /** One line: where the store is, what the next loss means, what to do. */
  text: string;
}

const names = (members: readonly StoreMember[]): string => members.map(({ name }) => name).sort().join(', ');
const plural = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

const MEANS = 'networks and published ports cannot change, and nodes hand out addresses only from the blocks they hold; running containers are not affected';

/** `nodes`: of the cluster, members or not. `answers`: whether the store does. */
export function describeQuorum(members: readonly StoreMember[], nodes: number, answers: boolean): Quorum {
  const voters = members.filter(({ isLearner }) => !isLearner);
  const learners = members.filter(({ isLearner }) => isLearner);
  const dead = voters.filter(({ isAlive }) => !isAlive);
  const majority = Math.floor(voters.length / 2) + 1;
  const spare = voters.length - dead.length - majority;
  const catchingUp = learners.length > 0 ? `; ${names(learners)} ${learners.length === 1 ? 'is' : 'are'} catching up` : '';

  const where = `on ${names(voters)}${catchingUp}`;
  const advice = (): string => {
    if (spare < 0) return `${names(dead)} away: until ${plural(-spare, 'more voter')} of ${names(dead)} is back, ${MEANS}`;
    if (!answers) return 'their hosts are there and the store does not answer: `weft status` on each of them says what is wrong with its copy';
    if (voters.length === 1) {
      const cure = nodes < 3 ? 'a third node makes it survive the loss of one' : 'it spreads to three nodes by itself';
      return `while ${names(voters)} is away ${MEANS}; if its disk is lost, so is the store: keep a copy with \`weft backup\` (${cure})`;
    }
    const lost = dead.length > 0 ? `${names(dead)} away, replace it with \`weft node promote\` if it does not come back; ` : '';
    return spare === 0 ? `${lost}if one more of ${names(voters.filter(({ isAlive }) => isAlive))} goes, ${MEANS}` : `${lost}${plural(spare, 'voter')} may be lost without effect`;
  };
  return { voters: voters.length, majority, spare, text: `${where}: ${advice()}` };
}
