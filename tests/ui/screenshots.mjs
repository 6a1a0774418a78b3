// Pictures of the main pages of a lively cluster, for the documentation: `scripts/ui-test --screenshots`.
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Cluster, sampleSpec, sweepSpec, waitFor } from './cluster.mjs';
import { Visitor, launch } from './browser.mjs';

const FOLDER = process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'docs', 'images');
/** So that rates and lines have something to show. */
const LIVELY_MS = 14_000;

const cluster = await Cluster.start({
  workers: [
    { id: 'cusco-1', slots: 4, zone: 'cusco' }, { id: 'cusco-2', slots: 4, zone: 'cusco' }, { id: 'cusco-3', slots: 2, zone: 'cusco' },
    { id: 'lima-1', slots: 4, zone: 'lima' }, { id: 'lima-2', slots: 2, zone: 'lima' }, { id: 'lima-3', slots: 2, zone: 'lima' },
  ],
});
const browser = await launch();
try {
  await mkdir(FOLDER, { recursive: true });
  const histogram = await cluster.submit({
    kind: { sample: { formula: 's0 * math::exp((r - v * v / 2.0) * t + v * math::sqrt(t) * z)', name: 'price', rows: 2_000_000, seed: 11, draws: [{ name: 'z', distribution: { normal: [0, 1] } }] } },
    bindings: [['s0', { float: 100 }], ['r', { float: 0.03 }], ['v', { float: 0.2 }], ['t', { float: 1 }]],
    reductions: ['mean', 'stddev', { quantile: 0.05 }, { quantile: 0.95 }, { histogram: { lo: 40, hi: 200, bins: 60 } }],
    name: 'Price in a year', queue: { labels: { desk: 'options', from: 'nightly' } },
  });
  await cluster.submit(sweepSpec('10 / (x - 3)', { int_range: { start: 0, stop: 2000, step: 1 } }, { name: 'Divide by distance' }));
  await cluster.submit(sweepSpec('math::sin(x) / x', { float_range: { start: { float: 0.1 }, stop: { float: 40 }, step: { float: 0.01 } } }, { name: 'Sinc', on_error: 'null' }));
  await cluster.submit({ kind: { eval: { formulas: ['1 + 2 * 3', 'math::sqrt(2.0)', '"a" + "b"'] } }, name: 'Three formulas' });
  const stopped = await cluster.submit(sampleSpec(50_000_000_000, { name: 'Stopped halfway' }));
  const main = await cluster.submit(sampleSpec(3_000_000_000, { name: 'Risk of the northern book', queue: { labels: { desk: 'risk' }, priority: 5 } }));
  await cluster.submit(sampleSpec(40_000_000_000, { name: 'Calibration, all strikes' }));
  await cluster.submit(sampleSpec(6_000_000_000, { name: 'Stress of 2008', queue: { priority: 2 } }));
  await cluster.submit(sampleSpec(9_000_000_000, { name: 'After the calibration', queue: { after: [{ job: main }] } }));
  await cluster.fetch(`/v1/jobs/${stopped}:cancel`, { method: 'POST' });
  await cluster.until(histogram, 'succeeded', 120_000);

  const look = { light: { colorScheme: 'light' }, dark: { colorScheme: 'dark' }, phone: { colorScheme: 'light', viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 1.5 } };
  const visitors = {};
  for (const [name, options] of Object.entries(look)) visitors[name] = await (await Visitor.open(browser, cluster.origin, { viewport: { width: 1280, height: 800 }, locale: 'en-GB', ...options })).logIn(cluster.token);
  const shoot = async (page, name, height) => {
    const size = page.viewportSize();
    if (height) await page.setViewportSize({ width: size.width, height });
    await page.screenshot({ path: join(FOLDER, `${name}.png`), animations: 'disabled' });
    await page.setViewportSize(size);
  };

  await visitors.light.page.goto('/');
  await visitors.dark.page.goto('/');
  await visitors.phone.page.goto('/');
  await new Promise((resolve) => setTimeout(resolve, LIVELY_MS));
  await cluster.kill('lima-3');
  await cluster.fetch('/v1/nodes/cusco-3:drain', { method: 'POST' });
  await visitors.light.page.locator('.node.down').waitFor();
  await waitFor('a draining or a left worker', async () => (await visitors.light.page.locator('.node.draining, .node.left').count()) > 0);
  await shoot(visitors.light.page, 'overview-light', 1120);
  await shoot(visitors.dark.page, 'overview-dark', 1120);
  await shoot(visitors.phone.page, 'overview-phone', 1500);
  for (const [name, visitor] of Object.entries(visitors)) {
    await visitor.page.goto(`/jobs/${main}`);
    await visitor.page.locator('#link[data-state="live"], #link[data-state="ended"]').waitFor();
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    await shoot(visitor.page, `job-${name}`, 1500);
  }
  await visitors.light.page.goto(`/jobs/${histogram}`);
  await shoot(visitors.light.page, 'results-light', 1300);
  await visitors.light.page.goto('/jobs');
  await shoot(visitors.light.page, 'jobs-light', 700);
  for (const [name, visitor] of [['light', visitors.light], ['dark', visitors.dark], ['phone', visitors.phone]]) {
    const { page } = visitor;
    await page.goto('/try');
    await page.getByLabel('Formula', { exact: true }).fill('math::exp(-x * x / (2.0 * k)) * math::cos(4.0 * x)');
    await page.getByRole('radio', { name: /As a sweep/ }).check();
    await page.getByLabel('x', { exact: true }).fill('-6.0:6.0/400');
    await page.getByLabel('k', { exact: true }).fill('0.5, 2.0, 8.0');
    await page.locator('#verdict', { hasText: 'gives' }).waitFor();
    await page.getByRole('button', { name: 'Sweep' }).click();
    await page.locator('#answer svg path.line').first().waitFor();
    await page.mouse.move(0, 0);
    await shoot(page, `try-${name}`, name === 'phone' ? 1500 : 1250);
  }
} finally {
  await browser.close();
  await cluster.stop();
}
