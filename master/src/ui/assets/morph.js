// Makes an element's content what new HTML says, and keeps what is the same: focus, selection, open details, animations.

/** Puts `html` (which the master wrote, and escaped) into `place`. */
export function morph(place, html) {
  const wanted = document.createElement('template');
  wanted.innerHTML = html;
  const focused = document.activeElement;
  const held = focused && place.contains(focused);
  children(place, wanted.content);
  if (held && !document.contains(focused)) document.getElementById('main')?.focus({ preventScroll: true });
}

function children(old, wanted) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let at = old.firstChild;
  for (const next of [...wanted.childNodes]) {
    const key = next.nodeType === Node.ELEMENT_NODE ? next.dataset.key : undefined;
    let match = key ? keyed.get(key) : at;
    if (!key) while (match && match.nodeType === Node.ELEMENT_NODE && match.dataset.key) match = match.nextSibling;
    if (match && same(match, next)) {
      if (match !== at) old.insertBefore(match, at);
      else at = at.nextSibling;
      node(match, next);
    } else {
      old.insertBefore(next, at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function same(a, b) {
  if (a.nodeType !== b.nodeType) return false;
  return a.nodeType !== Node.ELEMENT_NODE || (a.localName === b.localName && a.dataset.key === b.dataset.key);
}

function node(old, wanted) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== wanted.nodeValue) old.nodeValue = wanted.nodeValue;
    return;
  }
  if (old.isEqualNode(wanted)) return;
  for (const { name } of [...old.attributes]) {
    // What somebody has opened or closed stays so.
    if (!wanted.hasAttribute(name) && !(old.localName === 'details' && name === 'open')) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.localName === 'details' && name === 'open') continue;
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (!old.hasAttribute('data-keep')) children(old, wanted);
}
