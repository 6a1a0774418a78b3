// What every page does: colours, local times, buttons that ask the API for something.

const NOTICE_MS = 6_000;
const COOKIE_S = 365 * 24 * 3600;

/** Shows a word of what happened, and lets a screen reader say it. */
export function notice(text, bad = false) {
  const line = document.createElement('p');
  line.textContent = text;
  if (bad) line.className = 'bad';
  document.getElementById('notices').append(line);
  setTimeout(() => line.remove(), NOTICE_MS);
}

/** Moments in the reader's own time and manner. */
export function localTimes(root) {
  const manner = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
  for (const time of root.querySelectorAll('time')) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    time.title = time.dateTime;
    time.textContent = manner.format(moment);
  }
}

/** What an answer that is no success says of itself. */
export async function trouble(answer) {
  try {
    const problem = await answer.json();
    return problem.detail ?? `${answer.status} ${answer.statusText}`;
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}

function confirmed(text) {
  if (!text) return Promise.resolve(true);
  return new Promise((resolve) => {
    const dialog = document.createElement('dialog');
    const said = document.createElement('p');
    said.id = 'question';
    said.textContent = text;
    const form = document.createElement('form');
    form.method = 'dialog';
    form.className = 'actions';
    for (const [value, word, style] of [['no', 'No', ''], ['yes', 'Yes', 'primary']]) {
      const button = document.createElement('button');
      button.value = value;
      button.textContent = word;
      button.className = style;
      form.append(button);
    }
    dialog.append(said, form);
    dialog.setAttribute('aria-labelledby', 'question');
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

async function act(button) {
  const { action, path, confirm, done, follow, next } = button.dataset;
  if (!(await confirmed(confirm))) return button.focus();
  button.disabled = true;
  try {
    const answer = await fetch(path, { method: action });
    if (!answer.ok) return notice(await trouble(answer), true);
    if (follow) return location.assign(follow + (await answer.json()).id);
    if (next) return location.assign(next);
    notice(done ?? 'done');
  } catch {
    notice('The master does not answer.', true);
  } finally {
    button.disabled = false;
  }
}

document.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-action]');
  if (button) act(button);
});

const toggle = document.getElementById('theme');
if (toggle) {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const is = () => (document.documentElement.dataset.theme ?? (dark.matches ? 'dark' : 'light')) === 'dark';
  const tell = () => toggle.setAttribute('aria-pressed', String(is()));
  toggle.hidden = false;
  toggle.setAttribute('aria-label', 'Dark colours');
  toggle.title = 'Dark colours';
  tell();
  dark.addEventListener('change', tell);
  toggle.addEventListener('click', () => {
    const theme = is() ? 'light' : 'dark';
    document.documentElement.dataset.theme = theme;
    document.cookie = `quipu_theme=${theme}; path=/; max-age=${COOKIE_S}; samesite=strict`;
    tell();
  });
}

localTimes(document);
