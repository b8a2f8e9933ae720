import { test } from 'tap';
import { describeQuorum, type StoreMember } from './quorum.ts';

/** 'a b- c?' : a lives, b is dead, c is a learner. */
const members = (text: string): StoreMember[] => text.split(' ').map((word) => ({ name: word[0]!, isAlive: !word.includes('-'), isLearner: word.includes('?') }));

void test('what a loss means', (t) => {
  for (const [who, nodes, expected, text] of [
    ['a', 1, { voters: 1, majority: 1, spare: 0 }, /^on a: while a is away .*weft backup.*third node/],
    ['a', 4, { voters: 1, majority: 1, spare: 0 }, /three nodes by itself/],
    ['a-', 2, { voters: 1, majority: 1, spare: -1 }, /^on a: a away: until 1 more voter of a is back, networks/],
    ['a b?', 3, { voters: 1, majority: 1, spare: 0 }, /^on a; b is catching up: while a/],
    ['a b', 3, { voters: 2, majority: 2, spare: 0 }, /^on a, b: if one more of a, b goes/],
    ['a b c', 3, { voters: 3, majority: 2, spare: 1 }, /^on a, b, c: 1 voter may be lost without effect$/],
    ['a b- c', 9, { voters: 3, majority: 2, spare: 0 }, /: b away, replace it with `weft node promote`.*if one more of a, c goes, networks/],
    ['a b- c-', 9, { voters: 3, majority: 2, spare: -1 }, /until 1 more voter of b, c is back/],
    ['a b c d e-', 9, { voters: 5, majority: 3, spare: 1 }, /e away.*1 voter may be lost/],
    ['a b c d e', 9, { voters: 5, majority: 3, spare: 2 }, /2 voters may be lost/],
  ] as [string, number, object, RegExp][]) {
    const quorum = describeQuorum(members(who), nodes, true);
    t.match(quorum, expected, who);
    t.match(quorum.text, text, who);
  }
  t.match(describeQuorum(members('a b c'), 3, false).text, /^on a, b, c: their hosts are there and the store does not answer/);
  t.match(describeQuorum(members('a b- c-'), 3, false).text, /until 1 more voter of b, c is back/);
  t.end();
});
