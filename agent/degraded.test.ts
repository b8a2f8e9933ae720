import { test } from 'tap';
import { describeDegraded } from './degraded.ts';

test('what waits for the store, and how long starts go on without it', (t) => {
  t.match(describeDegraded([{ subnet: '10.192.0.0/24', free: 13, resting: 0 }, { subnet: '10.70.0.0/24', free: 2, resting: 0 }]),
    /in hand: 15 addresses left \(13 in 10\.192\.0\.0\/24, 2 in 10\.70\.0\.0\/24\)\. Waiting for the store: creating and removing networks/);
  t.match(describeDegraded([{ subnet: '10.192.0.0/24', free: 1, resting: 3 }]), 'in hand: 1 address left (1 in 10.192.0.0/24; 3 more when they have rested).');
  t.match(describeDegraded([]), 'in hand: 0 addresses left. Waiting');
  t.end();
});
