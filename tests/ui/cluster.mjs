// A cluster of real processes on loopback, which ends with the test.
import { spawn, execFile } from 'node:child_process';
import { mkdtemp, writeFile, rm, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const run = promisify(execFile);
const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const BINARY = process.env.QUIPU_BIN ?? join(ROOT, 'target', 'release', 'quipu');
/** Ten times what a start takes on a busy machine. */
const START_MS = 30_000;
const POLL_MS = 50;

// Nothing of who runs the tests.
const ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('QUIPU_')));

/** Waits until `condition` gives something. */
export async function waitFor(what, condition, ms = START_MS) {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function start(args, log) {
  const file = await open(log, 'a');
  const child = spawn(BINARY, args, { env: ENV, stdio: ['ignore', 'pipe', file.fd] });
  const failed = once(child, 'exit').then(([code]) => { throw new Error(`${args[0]} ended with ${code}; see ${log}`); });
  const lines = createInterface({ input: child.stdout });
  const first = once(lines, 'line').then(([line]) => JSON.parse(line));
  const late = new Promise((_, reject) => setTimeout(reject, START_MS, new Error(`${args[0]} is not ready`)).unref());
  const ready = await Promise.race([first, failed, late]);
  failed.catch(() => {});
  await file.close();
  return { child, ready };
}

export class Cluster {
  workers = new Map();

  static async start({ workers = ['worker-1', 'worker-2'], master = [] } = {}) {
    const cluster = new Cluster();
    cluster.folder = await mkdtemp(join(tmpdir(), 'quipu-ui-'));
    cluster.secret = join(cluster.folder, 'secret');
    const { stdout } = await run(BINARY, ['secret', 'new'], { env: ENV });
    await writeFile(cluster.secret, stdout, { mode: 0o600 });
    cluster.masterArgs = master;
    await cluster.startMaster(['127.0.0.1:0', '127.0.0.1:0', '127.0.0.1:0']);
    for (const worker of workers) await cluster.addWorker(worker);
    await waitFor('the workers', async () => (await cluster.nodes()).filter((node) => node.role === 'worker' && node.state === 'up').length === workers.length);
    return cluster;
  }

  async startMaster([http, rpc, gossip]) {
    const args = ['master', '--http', http, '--rpc', rpc, '--gossip', gossip, '--node-id', 'master-1', ...this.masterArgs];
    const { child, ready } = await start([...args, ...this.common(), '--data-dir', join(this.folder, 'data')], join(this.folder, 'master.log'));
    this.master = child;
    this.ready = ready;
    this.origin = ready.http;
    this.token = (await this.cli('secret', 'token')).trim();
  }

  /** Starts the master again on its addresses and its data. */
  async restartMaster() {
    const { http, rpc, gossip } = this.ready;
    await end(this.master);
    await this.startMaster([http.replace('http://', ''), rpc, gossip]);
  }

  common() {
    return ['--cluster-id', 'ui', '--log-format', 'json', '--secret-file', this.secret];
  }

  /** A worker: its name, or `{ id, slots, zone }`. */
  async addWorker(worker) {
    const { id, slots = 1, zone } = typeof worker === 'string' ? { id: worker } : worker;
    const args = ['worker', '--seed', this.ready.gossip, '--rpc', '127.0.0.1:0', '--gossip', '127.0.0.1:0', '--node-id', id, '--slots', String(slots)];
    if (zone) args.push('--zone', zone);
    const { child } = await start([...args, ...this.common()], join(this.folder, `${id}.log`));
    this.workers.set(id, child);
  }

  /** kill -9. */
  async kill(id) {
    const child = this.workers.get(id);
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }

  async ended(id) {
    const child = this.workers.get(id);
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }

  /** Runs a command of the command line on this cluster. */
  async cli(...args) {
    const remote = args[0] === 'secret' ? [] : ['--cluster', this.origin];
    const { stdout } = await run(BINARY, [...args, ...remote, '--cluster-id', 'ui', '--secret-file', this.secret], { env: ENV, maxBuffer: 64 << 20 });
    return stdout;
  }

  /** A token of this role, and of this namespace if one is given. */
  async newToken(name, role, namespace) {
    return (await this.cli('token', 'new', name, '--role', role, ...(namespace ? ['--in', namespace] : []))).trim();
  }

  async fetch(path, { token = this.token, ...options } = {}) {
    const headers = { ...options.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
    return fetch(this.origin + path, { redirect: 'manual', ...options, headers });
  }

  async nodes() {
    return (await (await this.fetch('/v1/nodes')).json()).nodes;
  }

  async job(id) {
    return (await this.fetch(`/v1/jobs/${id}`)).json();
  }

  /** Submits a job's spec; gives its id. */
  async submit(spec, token = this.token) {
    const answer = await this.fetch('/v1/jobs', { method: 'POST', token, headers: { 'content-type': 'application/json' }, body: JSON.stringify(spec) });
    if (!answer.ok) throw new Error(`submit: ${answer.status} ${await answer.text()}`);
    return (await answer.json()).id;
  }

  async until(id, state, ms) {
    return waitFor(`job ${id} to be ${state}`, async () => {
      const job = await this.job(id);
      return job.state === state && job;
    }, ms);
  }

  async stop() {
    for (const child of this.workers.values()) await end(child);
    await end(this.master);
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function end(child) {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

/** A sample that keeps a slot busy for a while: rows of about ten nanoseconds each. */
export function sampleSpec(rows, rest = {}) {
  const formula = 'math::sin(x) * math::exp(y) + math::ln(x + 1.5) * math::cos(y)';
  const draws = ['x', 'y'].map((name) => ({ name, distribution: { uniform: [0, 1] } }));
  return { kind: { sample: { formula, name: 'result', rows, seed: 7, draws } }, reductions: ['mean'], ...rest };
}

export function sweepSpec(formula, values, rest = {}) {
  return { kind: { sweep: { formula, name: 'result', axes: [{ name: 'x', values }] } }, ...rest };
}
