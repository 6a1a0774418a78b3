// Whether everybody can use it: by keyboard, on a phone, in the dark, with a screen reader.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { Cluster, sampleSpec, sweepSpec } from './cluster.mjs';
import { Visitor, launch, overflow } from './browser.mjs';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let cluster, browser, paths;
before(async () => {
  cluster = await Cluster.start({ workers: [{ id: 'worker-1', zone: 'rack-1' }, { id: 'worker-with-a-long-name-that-somebody-chose', zone: 'rack-2' }, 'worker-3'] });
  browser = await launch();
  const endless = await cluster.submit(sampleSpec(1_000_000_000_000, { name: 'a job with a long name that goes on and on until it is wider than a phone' }));
  const ended = await cluster.submit(sweepSpec('10 / x + math::abs(-123456789)', { int_range: { start: -50, stop: 50, step: 1 } }, { on_error: 'null' }));
  const many = await cluster.submit({ kind: { eval: { formulas: ['1', '"x" + "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"', '1 +'] } } });
  await cluster.until(ended, 'succeeded');
  await cluster.until(many, 'succeeded');
  await cluster.kill('worker-3');
  paths = ['/', '/jobs', `/jobs/${endless}`, `/jobs/${ended}`, `/jobs/${many}`, '/nodes/worker-1', '/nodes/worker-3', '/try', '/jobs?name=nobody'];
});
after(async () => {
  await browser?.close();
  await cluster?.stop();
});

/** What axe finds that is serious. */
async function violations(page) {
  // Not with a script element, which the page's policy rightly refuses.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical').map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.any?.[0]?.message ?? ''}`).join(' | ')}`);
}

for (const colorScheme of ['light', 'dark']) {
  test(`no page has a serious barrier, ${colorScheme}`, async () => {
    const visitor = await Visitor.open(browser, cluster.origin, { colorScheme, reducedMotion: 'reduce' });
    await visitor.page.goto('/login');
    assert.deepEqual(await violations(visitor.page), [], '/login');
    await visitor.logIn(cluster.token);
    for (const path of paths) {
      await visitor.page.goto(path);
      if (path === '/try') {
        await visitor.page.getByRole('button', { name: 'A curve' }).click();
        await visitor.page.getByRole('button', { name: 'Sweep' }).click();
        await visitor.page.locator('#answer svg').waitFor();
      }
      assert.deepEqual(await violations(visitor.page), [], path);
    }
    await visitor.close();
  });
}

test('nothing is wider than a phone', async () => {
  const visitor = await Visitor.open(browser, cluster.origin, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  await visitor.page.goto('/login');
  assert.equal(await overflow(visitor.page), null);
  await visitor.logIn(cluster.token);
  for (const path of paths) {
    await visitor.page.goto(path);
    assert.equal(await overflow(visitor.page), null, path);
  }
  await visitor.page.goto('/try');
  await visitor.page.getByRole('button', { name: 'An estimate of π' }).click();
  await visitor.page.getByRole('button', { name: 'Sample' }).click();
  await visitor.page.locator('#answer svg').waitFor();
  assert.equal(await overflow(visitor.page), null, 'a histogram');
  await visitor.close();
});

test('colours follow the system, and the choice is remembered', async () => {
  const visitor = await (await Visitor.open(browser, cluster.origin, { colorScheme: 'dark' })).logIn(cluster.token);
  const { page } = visitor;
  const brightness = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0));
  const dark = await brightness();
  assert.ok(dark < 200, `${dark}`);
  const toggle = page.getByRole('button', { name: 'Dark colours' });
  assert.equal(await toggle.getAttribute('aria-pressed'), 'true');
  await toggle.click();
  assert.ok((await brightness()) > 600);
  await page.goto('/jobs');
  assert.ok((await brightness()) > 600, 'remembered');
  assert.equal(await page.locator('html').getAttribute('data-theme'), 'light', 'written by the master, so that nothing flashes');
  await visitor.close();
});

test('everything can be done by keyboard', async () => {
  const visitor = await Visitor.open(browser, cluster.origin);
  const { page } = visitor;
  const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim() || document.activeElement?.id || document.activeElement?.localName);
  const tabTo = async (wanted) => {
    const seen = [];
    for (let step = 0; step < 60; step += 1) {
      await page.keyboard.press('Tab');
      const now = await focused();
      seen.push(now);
      if (wanted.test(now)) return;
    }
    assert.fail(`no ${wanted} among ${seen.join(' > ')}`);
  };
  await page.goto('/login');
  // The field has the focus.
  await page.keyboard.type(cluster.token);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Cluster', exact: true }).waitFor();
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'Skip to the content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  await page.goto('/');
  await tabTo(/^Try$/);
  await page.keyboard.press('Enter');
  await page.waitForURL('**/try');
  await tabTo(/^formula$/);
  await page.keyboard.type('x * x');
  await page.getByLabel('x', { exact: true }).waitFor();
  await tabTo(/^var-eval-x$|^input$/);
  while ((await page.evaluate(() => document.activeElement.id)) !== 'var-eval-x') await page.keyboard.press('Tab');
  await page.keyboard.press('Control+A');
  await page.keyboard.type('12');
  await page.keyboard.press('Control+Enter');
  await page.locator('#value', { hasText: '144' }).waitFor();
  // A job is cancelled without a mouse, and the focus comes back where it was.
  const id = await cluster.submit(sampleSpec(1_000_000_000_000));
  await page.goto(`/jobs/${id}`);
  await page.locator('#head .state.running').waitFor();
  await tabTo(/^Cancel$/);
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, 'solid', 'the focus is seen');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert.equal(await focused(), 'Cancel');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await tabTo(/^Yes$/);
  await page.keyboard.press('Enter');
  await page.locator('#head .state.cancelled').waitFor();
  await visitor.close();
});

test('who wants less motion gets none', async () => {
  const visitor = await (await Visitor.open(browser, cluster.origin, { reducedMotion: 'reduce' })).logIn(cluster.token);
  await visitor.page.goto(paths[2]);
  const cell = visitor.page.locator('#shards .grid .cell').first();
  await cell.waitFor();
  assert.equal(await cell.evaluate((element) => getComputedStyle(element).animationName), 'none');
  await visitor.close();
});

test('each page has one main heading, landmarks and a title of its own', async () => {
  const visitor = await (await Visitor.open(browser, cluster.origin)).logIn(cluster.token);
  const titles = new Set();
  for (const path of paths.slice(0, 3).concat('/try', '/nodes/worker-1')) {
    await visitor.page.goto(path);
    assert.equal(await visitor.page.locator('h1').count(), 1, path);
    for (const role of ['banner', 'main', 'contentinfo']) assert.equal(await visitor.page.getByRole(role).count(), 1, `${role} of ${path}`);
    titles.add(await visitor.page.title());
  }
  assert.equal(titles.size, 5);
  await visitor.close();
});

test('the page of the API shows it, and asks it', async () => {
  const visitor = await Visitor.open(browser, cluster.origin);
  await visitor.logIn(cluster.token);
  const { page } = visitor;
  await page.getByRole('link', { name: 'API' }).click();
  const operation = page.locator('.opblock-get').filter({ hasText: '/v1/version' });
  await operation.locator('.opblock-summary-control').click();
  await operation.getByRole('button', { name: 'Try it out' }).click();
  await operation.getByRole('button', { name: 'Execute' }).click();
  await operation.locator('.live-responses-table .response-col_status').filter({ hasText: '200' }).waitFor();
  await visitor.close();
});
