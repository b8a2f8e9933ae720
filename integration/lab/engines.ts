/**
 * Docker engines newer than the distribution's, out of packages of later Debian suites. Their dockerd, containerd, shim
 * and proxy run on Debian 12 as they are, found through PATH; runc and the client stay Debian 12's (the newer runc wants
 * a newer libc). Nothing is installed: apt works on lists of its own, in the lab's directory.
 */
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { LAB_DIRECTORY } from './lab.ts';
import { must } from './run.ts';

export const SUITES = ['trixie', 'forky'] as const;
export type Suite = (typeof SUITES)[number];

const PACKAGES = ['docker.io', 'containerd'];
const PROGRAMS = ['usr/sbin/dockerd', 'usr/sbin/docker-proxy', 'usr/bin/containerd', 'usr/bin/containerd-shim-runc-v2'];
const SOURCES = ['/etc/apt/sources.list.d/debian.sources', '/etc/apt/sources.list'];
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const DOWNLOAD_MS = 300_000;

/**
 * The directory of that suite's engine, fetched once. What version that is, the engine says itself: suites move on.
 * Rejects with apt's words where the mirror lacks the suite: a test skips with that reason.
 */
export async function fetchEngine(suite: Suite): Promise<string> {
  const engines = join(LAB_DIRECTORY, 'engines');
  const directory = join(engines, suite);
  if (existsSync(directory)) return directory;
  await mkdir(engines, { recursive: true });
  const work = await mkdtemp(join(engines, `${suite}-`));
  try {
    await download(suite, work);
    const programs = join(work, 'programs');
    for (const program of PROGRAMS) await cp(join(work, 'root', program), join(programs, basename(program)));
    await rename(programs, directory);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return directory;
}

/** The engine of a directory, or of a version ('28', '28.5.2') that a suite has. */
export async function findEngine(reference: string): Promise<string> {
  if (reference.includes('/')) {
    if (!existsSync(join(reference, 'dockerd'))) throw new Error(`there is no dockerd in ${reference}`);
    return resolve(reference);
  }
  const versions: string[] = [];
  for (const suite of SUITES) {
    const directory = await fetchEngine(suite);
    const [, version = 'unknown'] = /version ([^, ]+)/.exec(await must([join(directory, 'dockerd'), '--version'])) ?? [];
    if (`${version}.`.startsWith(`${reference}.`) || version.startsWith(`${reference}+`)) return directory;
    versions.push(version);
  }
  throw new Error(`no suite has an engine ${reference}; there are ${versions.join(' and ')}`);
}

async function download(suite: Suite, work: string): Promise<void> {
  const archives = join(work, 'archives');
  for (const each of ['lists/partial', 'archives/partial', 'root']) await mkdir(join(work, each), { recursive: true });
  await writeFile(join(work, 'status'), '');
  await writeFile(join(work, 'sources.list'), `deb [signed-by=${KEYRING}] ${await configuredMirror()} ${suite} main\n`);
  const options = [
    `Dir::Etc::SourceList=${work}/sources.list`, 'Dir::Etc::SourceParts=/dev/null', `Dir::State::Lists=${work}/lists`, `Dir::State::Status=${work}/status`, `Dir::Cache=${work}`, 'APT::Sandbox::User=root',
    // A mirror that stands still has lists past their date; their signatures hold.
    'Acquire::Check-Valid-Until=false',
  ].flatMap((option) => ['-o', option]);
  await must(['apt-get', ...options, '--error-on=any', '-qq', 'update'], { timeoutMs: DOWNLOAD_MS });
  await must(['sh', '-c', 'cd "$0" && exec apt-get -qq "$@"', archives, ...options, 'download', ...PACKAGES], { timeoutMs: DOWNLOAD_MS });
  for (const name of (await readdir(archives)).filter((each) => each.endsWith('.deb'))) await must(['dpkg-deb', '-x', join(archives, name), join(work, 'root')]);
}

/** The mirror this machine uses already. */
async function configuredMirror(): Promise<string> {
  for (const path of SOURCES.filter((each) => existsSync(each))) {
    const [, mirror] = /^(?:URIs:|deb(?: \[[^\]]*\])?)\s+(\S+)/m.exec(await readFile(path, 'utf8')) ?? [];
    if (mirror !== undefined) return mirror;
  }
  throw new Error(`no mirror is configured in ${SOURCES.join(' or ')}`);
}
