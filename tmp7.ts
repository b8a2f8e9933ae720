import { createLab } from './integration/lab/lab.ts';
import { weftUp } from './integration/lab/weft.ts';
import { createDockerClient } from './agent/docker/client.ts';
import { silentLogger } from './base/log.ts';
import { readFileSync } from 'node:fs';
const lab = await createLab({name:'try', hosts:1, docker:true});
const h=lab.host(1);
try {
 await weftUp(h);
 await h.must(['sh','-c',`sed -i 's/^{/{"logLevel":"debug",/' /etc/weft/weft.json`]);
 await h.exec(['pkill','-f','weftd.cjs --']); await h.exec(['sh','-c','kill $(cat /run/weft/weftd.pid)']);
 await new Promise(r=>setTimeout(r,2000));
 await h.docker('network','create','-d','weft-overlay','--ipam-driver','weft','wo');
 await h.docker('run','-d','--name','subject','weft-lab','sleep','10000');
 const c=createDockerClient({socketPath:`/proc/${h.pid}/root/run/docker.sock`,log:silentLogger});
 const ts=[];
 for(let i=0;i<25;i++){ const t=performance.now(); await c.connect('wo','subject'); ts.push(performance.now()-t); await c.disconnect('wo','subject'); }
 console.log(ts.map(x=>x.toFixed(0)).join(' '));
 const by={} as any;
 for (const l of readFileSync(h.directory+'/weftd.log','utf8').split('\n')) { try { const j=JSON.parse(l); if(j.us!==undefined) (by[j.call ?? j.msg] ??= []).push(j.us);} catch{} }
 for (const k in by) { by[k].sort((a:number,b:number)=>a-b); console.log(k, by[k].length, 'p50', by[k][by[k].length>>1], 'max', by[k].at(-1)); }
 console.log(readFileSync(h.directory+'/weftd.log','utf8').split('\n').slice(-40).map(l=>l.slice(0,200)).join('\n'));
} finally { await lab.destroy(); }
