import { test } from 'tap';
import { readAnswer } from './answers.ts';

const read = (call: string, body: unknown, status = 200): unknown => readAnswer(call, { status, headers: {}, text: typeof body === 'string' ? body : JSON.stringify(body) });

test('what Go decodes is an answer', async (t) => {
  t.match(read('NetworkDriver.CreateEndpoint', { Interface: { Address: '', AddressIPv6: '', MacAddress: '' }, Err: '' }), { value: {} }, 'empty strings, as Go structs are encoded');
  t.match(read('NetworkDriver.Join', { InterfaceName: { SrcName: 'v', DstPrefix: 'eth' }, Gateway: '', StaticRoutes: null, Err: null }), { value: { Gateway: '' } });
  t.match(read('NetworkDriver.GetCapabilities', { scope: 'local', connectivityscope: '' }), { value: { Scope: 'local' } }, 'names in any case');
  t.match(read('NetworkDriver.AllocateNetwork', { options: { scope: 'mine' } }), { value: { Options: { scope: 'mine' } } }, 'but not those of users');
  t.match(read('IpamDriver.GetCapabilities', {}), { value: {} });
  t.match(read('NetworkDriver.EndpointOperInfo', {}), { value: {} });
});

test('errors are where Docker looks for them', async (t) => {
  t.match(read('NetworkDriver.Join', { Err: 'no' }), { error: 'no' });
  t.match(read('IpamDriver.RequestPool', { Error: 'no' }), { error: 'no' });
  t.match(read('IpamDriver.RequestPool', { Err: 'no' }, 500), { error: 'no' });
  t.match(read('NetworkDriver.Join', 'EOF\n', 400), { error: 'status 400: EOF' });
  t.throws(() => read('IpamDriver.ReleasePool', { Err: 'no' }), /Docker: it reads 'Error'/);
  t.throws(() => read('NetworkDriver.Leave', { Error: 'no' }), /Docker: it reads 'Err'/);
});

test('what Docker chokes on', async (t) => {
  for (const [call, body, reason] of [
    ['NetworkDriver.Leave', '', /empty/],
    ['NetworkDriver.Leave', '[]', /not a JSON object/],
    ['NetworkDriver.Leave', 'ok', /not a JSON object/],
    ['NetworkDriver.Join', { InterfaceName: { SrcName: '', DstPrefix: 'eth' } }, /SrcName: expected a name/],
    ['NetworkDriver.Join', { InterfaceName: { SrcName: 'v', DstPrefix: 'eth' }, Gateway: '10.0.0.1/24' }, /Gateway: expected a plain address/],
    ['NetworkDriver.Join', { InterfaceName: { SrcName: 'v', DstPrefix: 'eth' }, StaticRoutes: [{ Destination: '10.0.0.0/8', RouteType: 0 }] }, /NextHop/],
    ['NetworkDriver.GetCapabilities', {}, /Scope/],
    ['NetworkDriver.CreateEndpoint', { Interface: { MacAddress: '02-42-00-00-00-01' } }, /MacAddress: expected a MAC/],
    ['IpamDriver.RequestAddress', { Address: '10.0.0.1' }, /Address: expected address\/length/],
    ['IpamDriver.RequestPool', { PoolID: 'p' }, /Pool/],
  ] as const) t.throws(() => read(call, body), reason, `${call} ${JSON.stringify(body)}`);
});
