import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster, sampleSpec, sweepSpec, waitFor } from './cluster.mjs';
import { Visitor, launch } from './browser.mjs';

const FOREVER = 1_000_000_000_000;
const HOSTILE = '<script>alert(1)</script>';

let cluster, browser, visitor, page;
before(async () => {
  cluster = await Cluster.start();
  browser = await launch();
  visitor = await (await Visitor.open(browser, cluster.origin)).logIn(cluster.token);
  page = visitor.page;
});
after(async () => {
  await browser?.close();
  await cluster?.stop();
});

async function confirm(word) {
  await page.getByRole('button', { name: word }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Yes' }).click();
}

test('a job is watched to its end without a reload', async () => {
  const id = await cluster.submit(sampleSpec(300_000_000, { name: 'watched', reductions: ['mean', { histogram: { lo: -2, hi: 4, bins: 20 } }] }));
  await page.goto(`/jobs/${id}`);
  await page.evaluate(() => { window.kept = true; });
  await page.locator('#head .state.running').waitFor();
  await page.locator('#link[data-state="live"]').waitFor();
  const cells = page.locator('#shards .grid .cell');
  assert.ok((await cells.count()) > 100);
  await page.locator('#shards .grid .cell.leased').first().waitFor();
  const seen = new Set();
  await waitFor('progress in several steps', async () => {
    seen.add(await page.locator('#progress .bar .num').innerText());
    return seen.size >= 4;
  });
  await page.locator('#head .state.succeeded').waitFor();
  await page.locator('#link[data-state="ended"]').waitFor();
  assert.equal(await page.locator('#shards .grid .cell:not(.d8)').count(), 0);
  assert.equal(await page.locator('#results svg rect.column').count(), 20);
  assert.ok((await page.locator('#attempts tbody tr').count()) > 5);
  assert.ok((await page.locator('#attempts .line:not(.scale)').count()) === 2, 'both workers have a line');
  assert.ok(await page.evaluate(() => window.kept), 'the page was not loaded again');
  assert.match(await page.locator('#summary').innerText(), /succeeded/);
});

test('a job shows its formula, its typed form and its settings', async () => {
  const spec = sweepSpec('a * x + 1', { int_range: { start: 0, stop: 10, step: 2 } }, {
    name: 'settings', bindings: [['a', { float: 2.5 }]], on_error: 'skip', queue: { labels: { team: 'maths' }, priority: 5 },
  });
  const id = await cluster.submit(spec);
  await cluster.until(id, 'succeeded');
  await page.goto(`/jobs/${id}`);
  const text = await page.locator('main').innerText();
  for (const part of ['a * x + 1', 'x = 0:10:2', 'a = 2.5', 'are left out', 'team=maths', 'gives', 'float']) assert.ok(text.includes(part), part);
  await page.getByText(/^Typed form/).click();
  assert.match(await page.getByRole('region', { name: 'Typed form' }).innerText(), /%1 = column 0: int/);
  assert.equal(await page.locator('#results svg path.line').count(), 1);
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Download results' }).click()]);
  assert.equal(download.suggestedFilename(), `quipu-job-${id}.csv`);
});

test('rows that failed are told with their errors', async () => {
  const id = await cluster.submit(sweepSpec('10 / x', { int_range: { start: -2, stop: 3, step: 1 } }, { on_error: 'null' }));
  await cluster.until(id, 'succeeded');
  await page.goto(`/jobs/${id}`);
  const row = page.locator('#errors tbody tr');
  assert.equal(await row.count(), 1);
  assert.match(await row.innerText(), /2\s+\S+\s+.*(zero|0)/);
  const failing = await cluster.submit(sweepSpec('10 / x', { int_range: { start: -2, stop: 3, step: 1 } }));
  await cluster.until(failing, 'failed');
  await page.goto(`/jobs/${failing}`);
  await page.locator('#head .error', { hasText: 'row 2' }).waitFor();
  await page.locator('#head .state.failed').waitFor();
});

test('a job is cancelled, run again and forgotten', async () => {
  const id = await cluster.submit(sampleSpec(FOREVER, { name: 'endless' }));
  await page.goto(`/jobs/${id}`);
  await page.locator('#head .state.running').waitFor();
  // Whoever says no changes nothing.
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'No' }).click();
  assert.equal((await cluster.job(id)).state, 'running');
  await confirm('Cancel');
  await page.locator('#head .state.cancelled').waitFor();
  await page.getByRole('button', { name: 'Run again' }).click();
  await page.waitForURL((url) => url.pathname.startsWith('/jobs/') && url.pathname !== `/jobs/${id}`);
  const again = Number(new URL(page.url()).pathname.split('/').pop());
  assert.equal((await cluster.job(again)).retry_of, id);
  await page.locator('#head .state.running').waitFor();
  await confirm('Cancel');
  await page.locator('#head .state.cancelled').waitFor();
  await confirm('Forget');
  await page.waitForURL('**/jobs');
  assert.equal((await cluster.fetch(`/v1/jobs/${again}`)).status, 404);
  const gone = await page.goto(`/jobs/${again}`);
  assert.equal(gone.status(), 404);
  await page.getByText(`there is no job ${again}`).waitFor();
  visitor.expected(/404/);
});

test('the list is filtered, and its rows go on by themselves', async () => {
  const id = await cluster.submit(sampleSpec(FOREVER, { name: 'listed' }));
  await page.goto('/jobs');
  await page.locator(`tr[data-key="job-${id}"] .state.running`).waitFor();
  await cluster.fetch(`/v1/jobs/${id}:cancel`, { method: 'POST' });
  await page.locator(`tr[data-key="job-${id}"] .state.cancelled`).waitFor();
  const newer = await cluster.submit({ kind: { eval: { formulas: ['1 + 1'] } } });
  await page.getByRole('link', { name: 'Newer jobs have come' }).click();
  await page.locator(`tr[data-key="job-${newer}"]`).waitFor();
  await page.getByRole('link', { name: 'Cancelled' }).click();
  await page.locator(`tr[data-key="job-${id}"]`).waitFor();
  assert.equal(await page.locator('tbody .state:not(.cancelled)').count(), 0);
  await page.getByLabel('Name of the job').fill('listed');
  await page.getByRole('button', { name: 'Find' }).click();
  await page.waitForURL(/name=listed/);
  assert.equal(await page.locator('tbody tr').count(), 1);
  await page.goto('/jobs?name=nobody');
  await page.getByText('No job fits.').waitFor();
});

test('there are pages of jobs', async () => {
  const specs = Array.from({ length: 30 }, (_, at) => ({ spec: { kind: { eval: { formulas: [`${at}`] } }, name: 'paged' } }));
  const body = specs.map((line) => JSON.stringify(line)).join('\n');
  const answer = await cluster.fetch('/v1/jobs:batch', { method: 'POST', headers: { 'content-type': 'application/x-ndjson' }, body });
  assert.ok(answer.ok, await answer.text());
  await page.goto('/jobs?name=paged');
  assert.equal(await page.locator('tbody tr').count(), 25);
  await page.getByRole('link', { name: 'Older' }).click();
  await page.waitForURL(/before=/);
  assert.equal(await page.locator('tbody tr').count(), 5);
});

test('names and formulas with a script in them are text everywhere', async () => {
  const id = await cluster.submit({ kind: { eval: { formulas: [`"${HOSTILE}"`, HOSTILE] } }, name: HOSTILE, queue: { labels: { [HOSTILE]: HOSTILE } } });
  await cluster.until(id, 'succeeded');
  const running = await cluster.submit(sampleSpec(FOREVER, { name: `${HOSTILE}"'><img src=x onerror=alert(1)>` }));
  for (const path of [`/jobs/${id}`, '/jobs', `/jobs/${running}`, '/']) {
    await page.goto(path);
    await page.getByText(HOSTILE).first().waitFor();
    await page.locator('#link[data-state="live"], #link[data-state="ended"]').or(page.locator('main')).first().waitFor();
    assert.equal(await page.locator('main script, main img').count(), 0, path);
  }
  await page.goto('/');
  // What comes over the stream is text as well.
  await page.locator('#link[data-state="live"]').waitFor();
  await waitFor('an event', () => page.evaluate(() => document.querySelector('.spark svg') !== null));
  assert.equal(await page.locator('main script, main img').count(), 0);
  await cluster.fetch(`/v1/jobs/${running}:cancel`, { method: 'POST' });
});

test('nothing went wrong in the browser', () => visitor.close());
