import { test } from 'tap';
import { requestedSubnets } from './subnet-requests.ts';

const TWO = ['10.1.0.0/24', '10.2.0.0/16'];

void test('what belongs to which subnet', async (t) => {
  t.same(requestedSubnets({}, TWO), [{ subnet: '10.1.0.0/24' }, { subnet: '10.2.0.0/16' }]);
  t.same(requestedSubnets({ gateways: ['10.2.0.9', '10.1.0.9'], ranges: ['10.2.128.0/17'], aux: { printer: '10.1.0.7', scanner: '10.2.0.7', clock: '10.1.0.8' } }, TWO), [
    { subnet: '10.1.0.0/24', gateway: '10.1.0.9', aux: { printer: '10.1.0.7', clock: '10.1.0.8' } },
    { subnet: '10.2.0.0/16', gateway: '10.2.0.9', range: '10.2.128.0/17', aux: { scanner: '10.2.0.7' } },
  ]);
});

void test('what belongs to none is refused', async (t) => {
  const refused = (request: Parameters<typeof requestedSubnets>[0], code: string): unknown => t.throws(() => requestedSubnets(request, TWO), { code });
  refused({ gateways: ['10.3.0.1'] }, 'WEFT-GATEWAY-OUTSIDE');
  refused({ gateways: ['banana'] }, 'WEFT-GATEWAY-OUTSIDE');
  refused({ gateways: ['10.1.0.1', '10.1.0.2'] }, 'WEFT-GATEWAY-OUTSIDE');
  refused({ ranges: ['10.0.0.0/8'] }, 'WEFT-RANGE-OUTSIDE');
  refused({ ranges: ['10.1.0.0/25', '10.1.0.128/25'] }, 'WEFT-RANGE-OUTSIDE');
  refused({ ranges: ['banana'] }, 'WEFT-RANGE-OUTSIDE');
  refused({ aux: { printer: '10.3.0.7' } }, 'WEFT-ADDRESS-OUTSIDE');
  refused({ aux: { printer: '10.1.0.07' } }, 'WEFT-ADDRESS-MALFORMED');
});
