import { createLab } from './integration/lab/lab.ts';
import { startEtcd } from './integration/lab/etcd.ts';
import { weft, weftUp, weftJson } from './integration/lab/weft.ts';
import { readFileSync } from 'node:fs';
const lab = await createLab({name:'try', hosts:3, docker:true});
const [a,b,c]=lab.hosts;
const show=async(h:any,...cc:string[])=>{ const t=performance.now(); const r=await h.tryDocker(...cc); console.log('$',h.name,'docker',cc.join(' '),'\n',r.code,r.stdout,r.stderr, Math.round(performance.now()-t)+'ms'); return r; };
try {
  const etcd = await startEtcd(a!);
  await Promise.all(lab.hosts.map(h=>weftUp(h,{store: etcd.url})));
  await new Promise(r=>setTimeout(r,2000));
  console.log((await weft(b!,'status')).stdout);
  await show(a,'network','create','-d','weft-overlay','--label','x=y','web');
  await new Promise(r=>setTimeout(r,1000));
  for (const h of lab.hosts) await show(h,'network','ls','--filter','driver=weft-overlay');
  await show(a,'run','-d','--name','c1','--network','web','-p','8080:80','weft-lab','httpd','-f','-v','-h','/etc');
  await show(b,'run','-d','--name','c2','--network','web','weft-lab','sleep','1000');
  await show(c,'run','-d','--name','c3','--network','web','--network-alias','al', 'weft-lab','sleep','1000');
  await show(b,'exec','c2','sh','-c','ping -c 1 c1; ping -c 1 c3; nslookup al; nslookup 10.192.0.1; traceroute -n c3; ip addr show eth0');
  console.log((await weft(a!,'network','ls')).stdout);
  console.log((await weft(b!,'ps')).stdout);
  for (const h of lab.hosts) console.log((await lab.on('outside',['curl','-s','-m','3',`http://${h.address}:8080/group`])));
  await show(a,'logs','c1');
  await show(a,'rm','-f','c1');
  await show(b,'exec','c2','sh','-c','nslookup c1; ping -c 1 -W 1 172.18.0.2');
  await show(c,'rm','-f','c3');
  await show(c,'system','prune','-f'); 
  await show(b,'rm','-f','c2');
  await new Promise(r=>setTimeout(r,2000));
  await show(c,'network','ls','--filter','driver=weft-overlay');
  await show(b,'network','rm','web');
  await new Promise(r=>setTimeout(r,3000));
  for (const h of lab.hosts) await show(h,'network','ls','--filter','driver=weft-overlay');
  console.log((await weft(a!,'network','ls')).stdout);
} catch(e) { console.log(e);} 
for (const h of lab.hosts) {console.log(h.name, readFileSync(h.directory+'/weftd.log','utf8').slice(-4000)); }
await lab.destroy(); 
