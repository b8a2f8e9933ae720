import { test } from 'tap';
import { openGlances } from './link-glance.ts';
import { space } from './testing.ts';

test('what a glance at a link tells', (t) => {
  const { netns, rtnl } = space(t);
  const index = rtnl.addLink({ kind: 'bridge', name: 'of-15-characters'.slice(0, 15) });
  const glances = openGlances(netns);
  t.teardown(glances.close);
  t.same(glances.look('of-15-character'), { index, up: false });
  rtnl.setLink(index, { up: true });
  t.same(rtnl.glance('of-15-character'), { index, up: true });
  t.equal(glances.look('of-15-characters-and-more'), undefined, 'no name is taken for the one that it begins with');
  t.equal(glances.look('never'), undefined);
  glances.close();
  t.same(glances.look('lo'), { index: 1, up: rtnl.link('lo')!.up }, 'closed, it opens again');
  t.end();
});
