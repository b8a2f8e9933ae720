import { test, type Test } from 'tap';
import { deleteFlows, type FlowFilter } from './conntrack.ts';
import { sys } from './ffi.ts';
import { openNft } from './nft.ts';
import { space } from './testing.ts';

/** Flows to 127.0.0.1 and 127.0.0.5, ports 7001 to 7003, translated to 127.0.0.2:7101 and so on; the last in a zone of its own. */
const RULES = `table ip n {
 chain zone { type filter hook output priority raw
  udp dport 7003 ct original zone set 3
 }
 chain out { type nat hook output priority -100
  meta l4proto { tcp, udp } ip daddr 127.0.0.1 th dport 7001 dnat to 127.0.0.2:7101
  ip daddr 127.0.0.1 udp dport 7002 dnat to 127.0.0.3:7101
  ip daddr 127.0.0.5 udp dport 7001 dnat to 127.0.0.2:7102
  udp dport 7003 dnat to 127.0.0.2:7103
 }
 chain in { type filter hook input priority 0
  tcp dport 7101 drop
 }
}
`;
/** By bash's own sockets: Node, begun two dozen times, takes a minute on a translated machine. */
const SEND = `
  for to in 127.0.0.1/7001 127.0.0.1/7002 127.0.0.5/7001 127.0.0.1/7003; do echo x > /dev/udp/$to; done
  (exec 3<> /dev/tcp/127.0.0.1/7001) &
  for ((i = 0; i < 500; i++)); do conntrack -L -p tcp 2> /dev/null | grep -q dport=7001 && break; sleep 0.01; done
  kill $!`;

const cases: [string, FlowFilter, string[]][] = [
  ['one backend', { protocol: 'udp', replySource: '127.0.0.2', replySourcePort: 7101 }, ['127.0.0.1:7001']],
  ['all of a backend\'s address, in a zone too', { protocol: 'udp', replySource: '127.0.0.2' }, ['127.0.0.1:7001', '127.0.0.5:7001', '127.0.0.1:7003']],
  ['by port alone', { protocol: 'udp', replySourcePort: 7101 }, ['127.0.0.1:7001', '127.0.0.1:7002']],
  ['by where it was first sent', { protocol: 'udp', originalDestination: '127.0.0.1', originalDestinationPort: 7001 }, ['127.0.0.1:7001']],
  ['by both', { protocol: 'udp', originalDestination: '127.0.0.1', replySource: '127.0.0.2', replySourcePort: 7103 }, ['127.0.0.1:7003']],
  ['none', { protocol: 'udp', replySource: '127.0.0.9' }, []],
];

function run(t: Test): void {
  const { netns, run } = space(t);
  deleteFlows(netns, { protocol: 'udp', replySource: '127.0.0.2' });
  const nft = openNft(netns);
  t.teardown(() => nft.close());
  nft.run(RULES);
  const flows = (protocol: string): string[] => run('sh', '-c', `conntrack -L -p ${protocol} 2>/dev/null`).split('\n')
    .flatMap((line) => /dst=(\S+) sport=\d+ dport=(\d+)/.exec(line)?.slice(1).join(':') ?? []).sort();
  for (const [name, filter, gone] of cases) {
    run('sh', '-c', 'conntrack -F 2>/dev/null');
    run('bash', '-c', SEND);
    const before = flows('udp');
    t.equal(before.length, 4, 'all flows are there');
    const tcp = flows('tcp');
    t.same(tcp, ['127.0.0.1:7001']);
    deleteFlows(netns, filter);
    t.same(flows('udp'), before.filter((flow) => !gone.includes(flow)), name);
    t.same(flows('tcp'), tcp, 'TCP stays');
  }
}

test('flows are forgotten by what they match', async (t) => run(t));

test('the same on kernels that do not filter what they delete', async (t) => {
  const { sendto } = sys;
  t.teardown(() => void Object.assign(sys, { sendto }));
  let refused = 0;
  Object.assign(sys, {
    // The filter becomes an attribute that the kernel does not know, and what is left is no whole tuple.
    sendto: (fd: number, data: Buffer, ...rest: [number, number, Buffer, number]) => {
      const filter = data.indexOf(Buffer.from([20, 0, 25, 0x80]));
      if (data.readUInt16LE(4) === 0x102 && filter >= 0) {
        data[filter + 2] = 60;
        refused++;
      }
      return sendto(fd, data, ...rest);
    },
  });
  run(t);
  t.equal(refused, cases.length + 1);
});

test('flows of IPv6: a port\'s, a backend\'s, and never those of IPv4', async (t) => {
  const { netns, run } = space(t);
  const nft = openNft(netns);
  t.teardown(() => nft.close());
  nft.run('table inet n {\n chain out { type nat hook output priority -100\n  ip6 daddr ::1 udp dport 7001 dnat to [::1]:7101\n  ip daddr 127.0.0.1 udp dport 7001 dnat to 127.0.0.2:7101\n }\n}\n');
  const flows = (): string[] => ['ipv4', 'ipv6'].filter((family) => run('sh', '-c', `conntrack -L -f ${family} -p udp 2>/dev/null`).includes('dport=7001'));
  const filters: FlowFilter[] = [
    { protocol: 'udp', family: 6, originalDestinationPort: 7001 }, { protocol: 'udp', originalDestination: '::1', originalDestinationPort: 7001 },
    { protocol: 'udp', replySource: '::1', replySourcePort: 7101 },
  ];
  for (const filter of filters) {
    run('bash', '-c', 'for ip in 127.0.0.1 ::1; do echo x > /dev/udp/$ip/7001; done');
    t.same(flows(), ['ipv4', 'ipv6']);
    deleteFlows(netns, filter);
    t.same(flows(), ['ipv4'], JSON.stringify(filter));
  }
});
