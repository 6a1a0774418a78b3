import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster, sampleSpec, waitFor } from './cluster.mjs';
import { Visitor, launch } from './browser.mjs';

let cluster, browser, visitor, page;
before(async () => {
  cluster = await Cluster.start({ workers: [{ id: 'worker-1', slots: 2, zone: 'a' }, { id: 'worker-2', zone: 'a' }, { id: 'worker-3', zone: 'b' }] });
  browser = await launch();
  visitor = await (await Visitor.open(browser, cluster.origin)).logIn(cluster.token);
  page = visitor.page;
});
after(async () => {
  await browser?.close();
  await cluster?.stop();
});

const card = (id) => page.locator(`.node[data-key="node-${id}"]`);
const colour = (id, property) => card(id).evaluate((element, name) => getComputedStyle(element)[name], property);

/** Whether a colour is more red than anything else. */
function isRed(text) {
  const [red, green, blue] = text.match(/\d+(?:\.\d+)?/g).map(Number);
  return red > green * 1.5 && red > blue * 1.5;
}

test('nodes stand in their zones, with slots, load and rate', async () => {
  await page.goto('/');
  await page.locator('#link[data-state="live"]').waitFor();
  await page.getByRole('heading', { name: 'Zone a' }).waitFor();
  assert.equal(await card('worker-1').locator('.pips i').count(), 2);
  const job = await cluster.submit(sampleSpec(1_000_000_000_000, { name: 'load' }));
  await card('worker-1').locator('.pips i.on').first().waitFor();
  await card('worker-1').getByText(/rows\/s/).waitFor();
  await page.locator('#running').getByRole('link', { name: 'load' }).waitFor();
  await waitFor('a rate', async () => /[1-9]/.test(await page.locator('.tile[data-spark] .figure').innerText()));
  await cluster.fetch(`/v1/jobs/${job}:cancel`, { method: 'POST' });
  await page.getByText('Nothing runs at this moment.').waitFor();
});

test('a worker that is killed goes red, in words too, and its shards are retried', async () => {
  const job = await cluster.submit(sampleSpec(2_000_000_000, { name: 'survivor' }));
  await page.goto('/');
  await card('worker-2').locator('.state.up').waitFor();
  await card('worker-2').locator('.pips i.on').waitFor();
  assert.ok(!isRed(await colour('worker-2', 'borderLeftColor')));
  await cluster.kill('worker-2');
  await card('worker-2').locator('.state.down').waitFor();
  assert.ok(isRed(await colour('worker-2', 'borderLeftColor')));
  assert.match(await card('worker-2').innerText(), /down/);
  assert.match(await page.locator('#summary').innerText(), /down: worker-2/);
  await page.goto(`/jobs/${job}`);
  await page.locator('#attempts .state.o-lost').first().waitFor();
  await page.locator('#shards .grid .cell.retried').first().waitFor();
  await cluster.fetch(`/v1/jobs/${job}:cancel`, { method: 'POST' });
  await page.locator('#head .state.cancelled').waitFor();
});

test('a worker is drained: it finishes what it has, and is gone without being red', async () => {
  const job = await cluster.submit(sampleSpec(1_000_000_000_000, { name: 'drained' }));
  await page.goto('/nodes/worker-3');
  await page.locator('#attempts .state.o-running').first().waitFor();
  await page.getByRole('button', { name: 'Drain' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Yes' }).click();
  await page.getByRole('button', { name: 'Drain' }).waitFor({ state: 'detached' });
  await cluster.ended('worker-3');
  await page.locator('#head .state.left').waitFor();
  await page.goto('/');
  await card('worker-3').locator('.state.left').waitFor();
  assert.ok(!isRed(await colour('worker-3', 'borderLeftColor')));
  assert.match(await card('worker-3').innerText(), /drained and left/);
  await cluster.fetch(`/v1/jobs/${job}:cancel`, { method: 'POST' });
});

test('a node that is not there is told so', async () => {
  const answer = await page.goto('/nodes/nobody');
  assert.equal(answer.status(), 404);
  await page.getByText('there is no node nobody').waitFor();
  visitor.expected(/404/);
});

test('a master that goes away is waited for, and asks again who one is', async () => {
  await page.goto('/');
  await page.locator('#link[data-state="live"]').waitFor();
  cluster.master.kill('SIGKILL');
  await page.locator('#link[data-state="reconnecting"]').waitFor();
  assert.match(await page.locator('#link').innerText(), /reconnecting/);
  await cluster.restartMaster();
  // Sessions end with their master.
  await page.getByLabel('Token').waitFor();
  visitor.expected(/401|ERR_/);
  await visitor.logIn(cluster.token);
  await page.locator('#link[data-state="live"]').waitFor();
});

test('nothing went wrong in the browser', () => visitor.close());
