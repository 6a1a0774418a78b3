// A browser without a screen, which talks to the master and to nobody else, and is watched for errors.
import { chromium } from 'playwright-core';
import assert from 'node:assert/strict';
import { join } from 'node:path';

const ARGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
/** For a thing to come about on a busy machine. */
export const PATIENCE_MS = 30_000;

export async function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS, headless: true });
}

/** A visitor: a fresh profile, and what went wrong in it. */
export class Visitor {
  static async open(browser, origin, options = {}) {
    const visitor = new Visitor();
    visitor.origin = origin;
    visitor.errors = [];
    visitor.context = await browser.newContext({ baseURL: origin, viewport: { width: 1280, height: 900 }, ...options });
    visitor.context.setDefaultTimeout(PATIENCE_MS);
    await visitor.context.route((url) => url.origin !== origin && url.protocol !== 'data:', (route) => {
      visitor.errors.push(`a request to ${route.request().url()}`);
      return route.abort();
    });
    // While one works on them: styles and scripts from the tree rather than from the binary.
    if (process.env.QUIPU_UI_ASSETS) {
      await visitor.context.route('**/ui/*/*.{css,js}', (route) => {
        const name = new URL(route.request().url()).pathname.split('/').pop();
        return route.fulfill({ path: join(process.env.QUIPU_UI_ASSETS, name) });
      });
    }
    await visitor.context.addInitScript(() => {
      addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
    });
    visitor.page = await visitor.context.newPage();
    visitor.page.on('pageerror', (error) => visitor.errors.push(`uncaught: ${error.message}`));
    visitor.page.on('dialog', (dialog) => {
      visitor.errors.push(`a dialog: ${dialog.message()}`);
      return dialog.dismiss();
    });
    visitor.page.on('console', (message) => {
      if (message.type() === 'error') visitor.errors.push(`console: ${message.text()} (${message.location().url})`);
    });
    return visitor;
  }

  /** Logs in as people do. */
  async logIn(token) {
    // Whoever is not logged in gets the form, with a status that says so, and the browser remarks on it.
    await this.page.goto('/login');
    await this.page.getByLabel('Token').fill(token);
    await this.page.getByRole('button', { name: 'Log in' }).click();
    await this.page.getByRole('button', { name: 'Log out' }).waitFor();
    return this;
  }

  /** Leaves out the errors that were to come. */
  expected(pattern) {
    const before = this.errors.length;
    this.errors = this.errors.filter((error) => !pattern.test(error));
    assert.notEqual(this.errors.length, before, `an error like ${pattern} was to come`);
  }

  /** Goes, and is unhappy about what went wrong. */
  async close() {
    await this.context.close();
    assert.deepEqual(this.errors, []);
  }
}

/** Whether the page is wider than its window. */
export async function overflow(page) {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return null;
    const wide = [...document.querySelectorAll('body *')].filter((element) => element.getBoundingClientRect().right > width + 1);
    return wide.slice(0, 5).map((element) => `${element.localName}.${element.className}`).join(', ') || 'something';
  });
}
