import { test } from 'tap';
import { raiseLoopback } from './loopback.ts';
import { space } from './testing.ts';

test('the loopback link is up afterwards', (t) => {
  const { netns, rtnl } = space(t);
  const { index } = rtnl.link('lo')!;
  rtnl.setLink(index, { up: false });
  raiseLoopback(netns);
  t.ok(rtnl.link('lo')!.up);
  raiseLoopback(netns);
  t.ok(rtnl.link('lo')!.up, 'again');
  t.end();
});
