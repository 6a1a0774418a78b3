import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './cluster.mjs';
import { Visitor, launch } from './browser.mjs';

let cluster, browser, visitor, page;
before(async () => {
  cluster = await Cluster.start({ workers: ['worker-1'] });
  browser = await launch();
  visitor = await (await Visitor.open(browser, cluster.origin)).logIn(cluster.token);
  page = visitor.page;
});
after(async () => {
  await browser?.close();
  await cluster?.stop();
});

async function type(formula) {
  await page.goto('/try');
  await page.getByLabel('Formula', { exact: true }).fill(formula);
}

test('a formula is checked as one types: its type, its price, its notes, its variables', async () => {
  await type('a / 2 + math::sin(b)');
  await page.locator('#verdict', { hasText: 'gives' }).waitFor();
  assert.match(await page.locator('#verdict').innerText(), /float[\s\S]*ns a row/);
  await page.getByLabel('a', { exact: true }).fill('7');
  await page.locator('#notes', { hasText: 'drops the fraction' }).waitFor();
  await page.getByText('Typed form').click();
  await page.locator('#form', { hasText: 'DivInt' }).waitFor();
});

test('an error points into the formula', async () => {
  await type('1 + foo(2)');
  await page.locator('#verdict .wrong').waitFor();
  assert.match(await page.locator('#verdict').innerText(), /column 5: /);
  assert.equal(await page.locator('#mirror mark').innerText(), 'foo');
  assert.equal(await page.getByLabel('Formula', { exact: true }).getAttribute('aria-invalid'), 'true');
  await type('(1 +\n  2 +');
  await page.locator('#verdict', { hasText: 'line 2' }).waitFor();
});

test('a formula is evaluated once, with its variables, and integers keep all their digits', async () => {
  await type('price * qty');
  await page.getByLabel('price').fill('9223372036854775807');
  await page.getByLabel('qty').fill('1');
  await page.getByRole('button', { name: 'Evaluate' }).click();
  await page.locator('#value', { hasText: '9223372036854775807' }).waitFor();
  await page.getByLabel('qty').fill('2');
  await page.keyboard.press('Control+Enter');
  await page.locator('#answer .error', { hasText: 'does not fit' }).waitFor();
  visitor.expected(/422/);
  await page.getByLabel('qty').fill('two');
  await page.getByRole('button', { name: 'Evaluate' }).click();
  await page.locator('#answer .error', { hasText: 'qty: two is no value' }).waitFor();
  assert.equal(await page.getByLabel('qty').getAttribute('aria-invalid'), 'true');
});

test('a sweep is drawn as a line', async () => {
  await type('math::exp(-x * x)');
  await page.getByRole('radio', { name: /As a sweep/ }).check();
  await page.getByLabel('x', { exact: true }).fill('-3.0:3.0/101');
  await page.getByRole('button', { name: 'Sweep' }).click();
  const line = page.locator('#answer svg path.line');
  await line.waitFor();
  assert.equal((await line.getAttribute('d')).match(/[ML]/g).length, 101);
  assert.match(await page.locator('#answer svg').getAttribute('aria-label'), /result over x from −3 to 3; between .* and 1/);
  await page.getByLabel('x', { exact: true }).fill('0:1/1000000');
  await page.getByRole('button', { name: 'Sweep' }).click();
  await page.locator('#answer .error', { hasText: 'too many to draw' }).waitFor();
});

test('a sweep over two axes has a line for each value of the second', async () => {
  await type('math::sin(x * k)');
  await page.getByRole('radio', { name: /As a sweep/ }).check();
  await page.getByLabel('x', { exact: true }).fill('0.0:6.0/61');
  await page.getByLabel('k', { exact: true }).fill('1.0, 2.0');
  await page.getByRole('button', { name: 'Sweep' }).click();
  await page.locator('#answer svg path.line').nth(1).waitFor();
  assert.deepEqual(await page.locator('#answer figcaption li').allInnerTexts(), ['k = 1', 'k = 2']);
});

test('a sample is drawn as a histogram', async () => {
  await type('x + y');
  await page.getByRole('radio', { name: /As a sample/ }).check();
  await page.getByLabel('x', { exact: true }).fill('uniform(0, 1)');
  await page.getByLabel('y', { exact: true }).fill('normal(10, 2)');
  await page.getByLabel('Draws', { exact: true }).fill('200 000');
  await page.getByLabel('Bins').fill('25');
  await page.getByRole('button', { name: 'Sample' }).click();
  await page.locator('#answer svg rect.column').first().waitFor();
  assert.equal(await page.locator('#answer svg rect.column').count(), 25);
  const facts = await page.locator('#answer dl').innerText();
  const mean = Number(/mean\s+(\S+)/.exec(facts)[1]);
  assert.ok(Math.abs(mean - 10.5) < 0.05, facts);
  await page.getByLabel('y', { exact: true }).fill('normal(10)');
  await page.getByRole('button', { name: 'Sample' }).click();
  await page.locator('#answer .error', { hasText: 'y: normal takes 2 numbers' }).waitFor();
});

test('a job that fails says why', async () => {
  await type('1 % x');
  await page.getByRole('radio', { name: /As a sample/ }).check();
  await page.getByLabel('x', { exact: true }).fill('integer(0, 0)');
  await page.getByRole('button', { name: 'Sample' }).click();
  await page.locator('#answer .error').waitFor();
  visitor.expected(/422|409|ERR_INCOMPLETE/);
});

test('a formula with a script in it is text', async () => {
  const hostile = '"<script>alert(1)</script><img src=x onerror=alert(2)>"';
  await type(hostile);
  await page.locator('#verdict', { hasText: 'row by row' }).waitFor();
  await page.getByRole('button', { name: 'Evaluate' }).click();
  await page.locator('#value', { hasText: '<script>alert(1)</script>' }).waitFor();
  assert.equal(await page.locator('#answer img, #answer script, #mirror img').count(), 0);
  await type('<script>alert(1)</script>');
  await page.locator('#verdict .wrong').waitFor();
  assert.equal(await page.locator('main script').count(), 0);
});

test('examples fill the form, and a formula may come with the address', async () => {
  await page.goto('/try');
  await page.getByRole('button', { name: 'A curve' }).click();
  await page.getByRole('button', { name: 'Sweep' }).click();
  await page.locator('#answer svg path.line').waitFor();
  await page.goto('/try?kind=sample&formula=x%20%2B%201');
  assert.equal(await page.getByLabel('Formula', { exact: true }).inputValue(), 'x + 1');
  await page.getByRole('button', { name: 'Sample' }).waitFor();
});

test('nothing went wrong in the browser', () => visitor.close());
