import { createLab } from './integration/lab/lab.ts';
import { weft, weftUp, weftJson } from './integration/lab/weft.ts';
import { readFileSync } from 'node:fs';
const lab = await createLab({name:'try', hosts:1, docker:true});
const a=lab.host(1);
const show=async(...c:string[])=>{ const r=await a.tryDocker(...c); console.log('$ docker',c.join(' '),'\n',r.code,r.stdout,r.stderr); return r; };
try {
  const svc = await weftUp(a);
  console.log((await weft(a,'status')).stdout);
  await show('network','create','-d','weft-bridge','br');
  await show('network','create','-d','weft-overlay','web');
  await show('network','create','-d','weft-overlay','--ipam-driver','weft','web2');
  await show('network','ls');
  await show('run','-d','--name','c1','--network','br','-p','8080:80','weft-lab','httpd','-f','-h','/etc');
  await show('run','-d','--name','c2','--network','web','weft-lab','sleep','1000');
  await show('run','-d','--name','c3','--network','web2','--network-alias','al', 'weft-lab','sleep','1000');
  await show('run','--rm','--network','web2','weft-lab','sh','-c','ping -c 1 c3; nslookup al; ip addr; ip route');
  await show('exec','c1','ip','addr');
  console.log((await weft(a,'network','ls')).stdout);
  console.log((await weft(a,'ps')).stdout);
  console.log((await weft(a,'status')).stdout);
  console.log((await a.exec(['curl','-s','-m','3','http://10.99.1.1:8080/group'])));
  console.log((await lab.on('outside',['curl','-s','-m','3','http://10.99.1.1:8080/group'])));
  await show('rm','-f','c1','c2','c3');
  await show('network','rm','br','web','web2');
  console.log((await weft(a,'network','ls')).stdout);
} catch(e) { console.log(e);} 
console.log(readFileSync(lab.directory+'/h1/weftd.log','utf8').slice(-6000)); console.log(readFileSync(lab.directory+'/h1/dockerd.log','utf8').split('\n').filter(l=>/plugin|weft/.test(l)).slice(-10).join('\n'));
await lab.destroy(); 
