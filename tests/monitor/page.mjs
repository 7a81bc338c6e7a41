// What a person sees of the monitor, in Chromium. tests/monitor/run sets the environment and starts the gateways.
//
// One gateway enforces, over a signed tree of which nothing has been read; one has mode = "warn"; one asks for a token.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const { MODULES, CHROMIUM, MONITOR, NFS_PORT, RELAXED, RELAXED_NFS_PORT, TREE, WORK, ARTEFACTS } = process.env;
const { GUARDED, GUARDED_NFS_PORT, TOKEN } = process.env;
const require = createRequire(path.join(MODULES, 'here'));
const { chromium } = require('playwright-core');
const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

/** For what other jobs on the machine may hold up: nothing is measured with it. */
const PATIENCE = 30_000;
/** From the end of the READ that failed to its row in the page. */
const PROMPT = 2_000;
const SECTIONS = ['health', 'export', 'failures', 'timeline', 'keys', 'stores', 'scrub', 'totals'];
const BLOCK = 4096;
const FILE = { path: 'dir/file.bin', blocks: 256, bad: 77 };
/** All that means something in HTML and in a URL, and 100 characters without a place to break. */
const HOSTILE = { path: `dir/<img src=x onerror=alert(1)>&amp;"'?a=b&c#d%2f+ ${'x'.repeat(100)}`, blocks: 4, bad: 2 };
const page_of = (file) => `/files?path=${encodeURIComponent(file.path)}`;
/** A link may leave unescaped what it can. */
const is_page_of = (file) => (url) => url.pathname === '/files' && url.searchParams.get('path') === file.path;

let passed = 0;
let failed = 0;
/** Whatever it throws is told; the others go on. */
async function holds(name, check) {
  try {
    const problems = (await check()) ?? [];
    if (problems.length > 0) throw new Error(problems.join('\n'));
    passed++;
  } catch (error) {
    failed++;
    const said = String(error.message ?? error).split('\n').slice(0, 15);
    console.log([`${name}:`, ...said].join('\n  '));
  }
}
const unless = (truth, problem) => (truth ? [] : [problem]);

/** Writes over a byte of a block, in the store. */
function damage(file) {
  const fd = fs.openSync(path.join(TREE, file.path), 'r+');
  const byte = Buffer.alloc(1);
  fs.readSync(fd, byte, 0, 1, file.bad * BLOCK + 123);
  byte[0] ^= 1;
  fs.writeSync(fd, byte, 0, 1, file.bad * BLOCK + 123);
  fs.closeSync(fd);
}

/** READs of ranges `first:count` of blocks: for each when it ended, and the bytes that came or a number below zero. */
function read(port, file, ...ranges) {
  return new Promise((resolve, reject) => {
    const reader = spawn('/usr/bin/python3', [fileURLToPath(new URL('read.py', import.meta.url)), port, file.path, ...ranges]);
    let out = '';
    let error = '';
    reader.stdout.on('data', (data) => (out += data));
    reader.stderr.on('data', (data) => (error += data));
    reader.on('error', reject);
    reader.on('close', (code) => {
      if (code !== 0) return reject(new Error(`read.py: status ${code}: ${error}`));
      const lines = out.trim().split('\n').map((line) => line.split(' ').map(Number));
      resolve(lines.map(([ended, bytes]) => ({ ended, bytes })));
    });
  });
}

const netlog = path.join(WORK, 'netlog.json');
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  timeout: 2 * PATIENCE,
  env: { ...process.env, HOME: WORK },
  args: [
    '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1',
    '--disable-background-networking',
    '--no-pings',
    `--log-net-log=${netlog}`,
  ],
});

/** Every request of every page. */
const requests = [];
/** A window whose page tells of what it was not allowed to do, and of what is wrong in its script. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  context.on('request', (request) => requests.push(request.url()));
  const page = await context.newPage();
  page.wrong = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) page.wrong.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => page.wrong.push(`script: ${error}`));
  page.on('dialog', (dialog) => {
    page.wrong.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => {
      window.violations.push(`${event.effectiveDirective} forbids ${event.blockedURI}`);
    });
  });
  return page;
}

/** What `open` listens for, since it was last asked. */
async function wrong(page) {
  const violations = await page.evaluate(() => window.violations.splice(0));
  return [...page.wrong.splice(0), ...violations];
}

async function shot(page, name) {
  await page.screenshot({ path: path.join(ARTEFACTS, `${name}.png`), fullPage: true });
}

/** The page's failures, as far as time does not change them. */
const failures = (page) =>
  page.$$eval('#failures tr[data-path]', (rows) =>
    rows.map((row) => [row.dataset.path, ...[...row.querySelectorAll('a, code')].map((e) => e.textContent)].join(' ')),
  );

/** Notes when a row for the path first stands in the document, by the page's own clock. */
async function watch(page, file) {
  await page.evaluate((wanted) => {
    window.seen = null;
    window.watcher?.disconnect();
    window.before ??= Math.random();
    const look = () => {
      const is_there = [...document.querySelectorAll('#failures tr[data-path]')].some((r) => r.dataset.path === wanted);
      if (is_there) window.seen ??= Date.now();
    };
    look();
    window.watcher = new MutationObserver(look);
    window.watcher.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  }, file.path);
  return page.evaluate(() => window.before);
}

/** Damages the file and reads `ranges`, of which the last one fails; then the page has to show it by itself. */
async function fails_before_eyes(page, file, ...ranges) {
  const before = await watch(page, file);
  const there = await page.evaluate(() => window.seen);
  if (there !== null) throw new Error('the failure is shown before it happened');
  damage(file);
  const results = await read(NFS_PORT, file, ...ranges);
  const { ended, bytes } = results.pop();
  if (!(bytes < 0)) throw new Error(`a READ of block ${file.bad} gives ${bytes} bytes`);
  const short = results.find(({ bytes }, i) => bytes !== Number(ranges[i].split(':')[1]) * BLOCK);
  if (short !== undefined) throw new Error(`a READ of good blocks gives ${short.bytes}`);
  const seen = await page.waitForFunction(() => window.seen, null, { polling: 100 }).then(
    (handle) => handle.jsonValue(),
    () => { throw new Error(`not shown within ${PATIENCE} ms`); },
  );
  const reloaded = (await page.evaluate(() => window.before)) !== before;
  console.log(`the page shows a failure ${seen - ended} ms after the READ`);
  return [
    ...unless(seen - ended <= PROMPT, `shown ${seen - ended} ms after the READ, not within ${PROMPT}`),
    ...unless(!reloaded, 'the page was loaded again'),
  ];
}

const row_of = (page, file) => page.locator('#failures tr[data-path]').filter({ has: page.getByText(file.path, { exact: true }) });

/** Every section once, in `main`. */
const structure = async (page) => {
  const ids = await page.$$eval('main [id]', (elements) => elements.map((element) => element.id));
  return SECTIONS.flatMap((id) => {
    const times = ids.filter((found) => found === id).length;
    return unless(times === 1, `#${id} stands ${times} times in main`);
  });
};

// --- A failure, as it comes

const live = await open();
await holds('a gateway where nothing has failed', async () => {
  await live.goto(`${MONITOR}/`, { timeout: 2 * PATIENCE });
  const none = await live.locator('#failures p').allTextContents();
  return [
    ...(await structure(live)),
    ...unless(none.includes('None.'), `#failures says ${JSON.stringify(none)}, not None.`),
    ...unless((await live.locator('#health[data-health=good]').count()) === 1, '#health is not good'),
    ...unless((await live.locator('.relaxed').count()) === 0, 'a banner of relaxed enforcement'),
    ...unless((await live.locator('#live[aria-live=polite]').count()) === 1, 'no #live region that is read out'),
    ...(await wrong(live)),
  ];
});
await shot(live, 'quiet');
await holds('a failure is shown within 2 s, without a reload', () =>
  fails_before_eyes(live, FILE, '0:16', '40:1', `${FILE.bad}:1`),
);
await holds('its row says what, where, to whom, and what to do', async () => {
  const row = row_of(live, FILE);
  const text = (await row.innerText()).replace(/\s+/g, ' ');
  const hashes = (await row.locator('code').allTextContents()).filter((code) => /^[0-9a-f]{64}$/.test(code.trim()));
  const href = await row.locator('a').first().getAttribute('href');
  const none = await live.locator('#failures p').allTextContents();
  return [
    ...['bad block', `block ${FILE.bad}`, '127.0.0.1'].flatMap((fact) => unless(text.includes(fact), `no "${fact}" in: ${text}`)),
    ...unless(hashes.length === 2 && hashes[0] !== hashes[1], `no expected and found hash: ${hashes}`),
    ...unless(new URL(href, MONITOR).searchParams.get('path') === FILE.path, `the link is ${href}`),
    ...unless((await row.locator('td').last().innerText()).length > 20, 'nothing says what to do'),
    ...unless(!none.includes('None.'), 'None. is still there'),
  ];
});
await holds('the failure is read out, and health is no longer good', async () => {
  await live.waitForFunction(() => document.querySelector('#live').textContent.trim() !== '');
  await live.waitForFunction(() => document.querySelector('#health').dataset.health !== 'good');
});
await holds('a name that means something to HTML stays a name', async () => {
  const problems = await fails_before_eyes(live, HOSTILE, `${HOSTILE.bad}:1`);
  const row = row_of(live, HOSTILE);
  return [
    ...problems,
    ...unless((await row.count()) === 1, 'no row that shows the name as it is'),
    ...unless((await live.locator('img').count()) === 0, 'the name became an element'),
  ];
});
await holds('the page that changed by itself is the page that is loaded anew', async () => {
  const changed = await failures(live);
  const again = await open();
  await again.goto(`${MONITOR}/`);
  const loaded = await failures(again);
  const differs = JSON.stringify(changed) !== JSON.stringify(loaded);
  await again.context().close();
  return differs ? ['changed:', ...changed, 'loaded:', ...loaded] : [];
});
await holds('the timeline is a picture with a name', async () => {
  const name = await live.$eval('#timeline svg[role=img]', (svg) => svg.querySelector('title')?.textContent ?? '');
  return unless(name.trim().length > 5, `its title is "${name}"`);
});
await shot(live, 'failed');

// --- The file's page

/** What the map says of each block, or what is wrong with the map. */
async function map(page, blocks) {
  const cells = await page.$$eval('#map [data-state]', (elements) =>
    elements.map((element) => {
      const { state, first, count } = element.dataset;
      const name = element.getAttribute('aria-label') ?? element.querySelector('title')?.textContent ?? element.textContent;
      return { state, first: Number(first), count: Number(count), name: name.trim() };
    }),
  );
  const states = new Array(blocks).fill(undefined);
  const problems = [];
  for (const { state, first, count, name } of cells) {
    if (!['bad', 'good', 'unknown'].includes(state)) problems.push(`state ${state}`);
    if (!(count >= 1 && first >= 0 && first + count <= blocks)) problems.push(`blocks ${first}, ${count} of them`);
    if (!name.includes(state) || !name.includes(String(first))) problems.push(`${state} from ${first} is named "${name}"`);
    for (let block = first; block < Math.min(first + count, blocks); block++) {
      if (states[block] !== undefined) problems.push(`block ${block} twice`);
      states[block] = state;
    }
  }
  const missing = states.indexOf(undefined);
  if (missing >= 0) problems.push(`block ${missing} is not on the map`);
  return { states, problems };
}

await holds("the failure's link leads to the file's page, which shows the bad block", async () => {
  await row_of(live, FILE).locator('a').first().click();
  await live.waitForURL(is_page_of(FILE));
  const { states, problems } = await map(live, FILE.blocks);
  const good = [...Array(16).keys(), 40];
  const h1 = await live.locator('h1').innerText();
  return [
    ...problems,
    ...unless(h1.includes(FILE.path), `the heading is "${h1}"`),
    ...unless(states.flatMap((state, block) => (state === 'bad' ? [block] : [])).join() === `${FILE.bad}`, 'other blocks are bad'),
    ...good.flatMap((block) => unless(states[block] === 'good', `block ${block}, which was read, is ${states[block]}`)),
    ...[FILE.bad + 60, FILE.blocks - 1].flatMap((block) =>
      unless(states[block] === 'unknown', `block ${block}, which nobody read, is ${states[block]}`),
    ),
    ...unless((await live.locator('#bad tr[data-block]').count()) === 1, 'not one bad block in the table'),
    ...unless((await live.locator(`#bad tr[data-block="${FILE.bad}"]`).count()) === 1, `block ${FILE.bad} is not in the table`),
  ];
});
await shot(live, 'file');
await holds("a link leads to the hostile name's page, too", async () => {
  await live.goto(`${MONITOR}/`);
  await row_of(live, HOSTILE).locator('a').first().click();
  await live.waitForURL(is_page_of(HOSTILE));
  const h1 = await live.locator('h1').textContent();
  const { states, problems } = await map(live, HOSTILE.blocks);
  return [
    ...problems,
    ...unless(h1.includes(HOSTILE.path), `the heading is "${h1}"`),
    ...unless(states[HOSTILE.bad] === 'bad', `block ${HOSTILE.bad} is ${states[HOSTILE.bad]}`),
    ...unless((await live.locator('img').count()) === 0, 'the name became an element'),
  ];
});
await holds('all that under its own policy, and with nothing on the console', () => wrong(live));
await live.context().close();

// --- Relaxed enforcement

const red = (color) => {
  const [r, g, b] = color.match(/[\d.]+/g).map(Number);
  return r > 120 && r > 2 * g && r > 2 * b;
};
await holds('warn mode is loud', async () => {
  const [{ bytes }] = await read(RELAXED_NFS_PORT, FILE, `${FILE.bad}:1`);
  const page = await open();
  await page.goto(`${RELAXED}/`);
  const banner = page.locator('div.relaxed[role=alert]');
  const problems = [
    ...(await structure(page)),
    ...unless(bytes === BLOCK, `warn mode gives ${bytes} for a bad block`),
    ...unless(await banner.isVisible(), 'no banner'),
    ...unless((await banner.innerText()).includes('warn'), 'the banner does not name the setting'),
    ...unless((await row_of(page, FILE).innerText()).includes('served'), 'the row does not say that it was served'),
    ...unless((await page.locator('#health[data-health=good]').count()) === 0, 'health is good'),
  ];
  const color = await banner.evaluate((element) => getComputedStyle(element).backgroundColor);
  const top = (await banner.boundingBox()).y;
  problems.push(...unless(red(color), `the banner is ${color}`), ...unless(top < 200, `the banner is ${top} px down`));
  problems.push(...(await wrong(page)));
  await page.context().close();
  return problems;
});

// --- A token

await holds('who has no token sees nothing', async () => {
  const page = await open();
  const response = await page.goto(`${GUARDED}/`);
  const told = await page.$$eval('main', (elements) => elements.map((element) => `it shows ${element.innerText}`));
  await page.context().close();
  return [...unless(response.status() === 401, `status ${response.status()}`), ...told];
});
await holds('who has it sees the page, its script and what happens', async () => {
  const page = await open({ httpCredentials: { username: 'anyone', password: TOKEN, origin: GUARDED } });
  await page.goto(`${GUARDED}/`);
  await watch(page, FILE);
  await read(GUARDED_NFS_PORT, FILE, `${FILE.bad}:1`);
  await page.waitForFunction(() => window.seen, null, { polling: 100 });
  const problems = [...(await structure(page)), ...(await wrong(page))];
  await page.context().close();
  return problems;
});

// --- Each page, in each light, wide and narrow, with axe

const PAGES = [
  ['page', `${MONITOR}/`],
  ['file', `${MONITOR}${page_of(FILE)}`],
  ['file-long-name', `${MONITOR}${page_of(HOSTILE)}`],
  ['relaxed', `${RELAXED}/`],
];
const brightness = (page) =>
  page.evaluate(() => {
    const shown = [document.body, document.documentElement].map((element) => getComputedStyle(element).backgroundColor);
    const solid = shown.find((color) => !/^rgba\(.*, 0\)$/.test(color)) ?? 'rgb(255, 255, 255)';
    return solid.match(/[\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765;
  });
const wide = (page) =>
  page.evaluate(() => {
    const room = document.documentElement.clientWidth;
    const needed = document.documentElement.scrollWidth;
    if (needed <= room) return [];
    const over = [...document.querySelectorAll('body *')].filter((element) => element.getBoundingClientRect().right > room + 1);
    const names = over.slice(0, 5).map((e) => e.tagName.toLowerCase() + (e.id ? `#${e.id}` : ''));
    return [`${needed} px wide in ${room} px: ${names.join(', ')}`];
  });
/** What a browser fetches from elsewhere, or prepares to: this one leaves the preparing out, others do not. */
const foreign = (page) =>
  page.evaluate(() => {
    const names = ['href', 'src', 'srcset', 'poster', 'data', 'action', 'formaction', 'xlink:href'];
    const own = (url) => ['data:', location.origin].some((start) => new URL(url, location.href).href.startsWith(start));
    const told = [...document.querySelectorAll('*')].flatMap((element) =>
      names.flatMap((name) => (element.hasAttribute(name) && !own(element.getAttribute(name)) ? [element.outerHTML.slice(0, 160)] : [])),
    );
    const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules].map((rule) => rule.cssText));
    const styles = [...rules, ...[...document.querySelectorAll('[style]')].map((element) => element.getAttribute('style'))];
    return [...told, ...styles.filter((css) => /url\((?!"?data:)|@import|image-set\(/i.test(css))];
  });
/** A line below it, which a block inside the link does not get from the link. */
const recognizable = (page) =>
  page.evaluate(() => {
    const underlined = (element) => getComputedStyle(element).textDecorationLine.includes('underline');
    const plain = (element, has) => {
      const line = underlined(element) || (has && getComputedStyle(element).display === 'inline');
      const text = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim() !== '');
      return (text && !line) || [...element.children].some((child) => plain(child, line));
    };
    return [...document.querySelectorAll('a[href]')].filter((link) => plain(link, false)).map((link) => `no line below ${link.outerHTML.slice(0, 160)}`);
  });
const notes = new Set();
/** axe comes in beside the page's policy, which stays in force. */
const accessible = async (page) => {
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const told = ({ id, impact, help, nodes }) => `${impact}, ${id}: ${help}: ${nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(' ')}`;
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  for (const { id, impact, help } of violations) if (!serious.some((v) => v.id === id)) notes.add(`${impact}, ${id}: ${help}`);
  return [...serious.map(told), ...unless(passes.length > 10, `axe looked at ${passes.length} things alone`)];
};

for (const colorScheme of ['light', 'dark']) {
  const page = await open({ colorScheme });
  const narrow = await open({ colorScheme, viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  for (const [name, url] of PAGES) {
    await holds(`${name} is ${colorScheme}`, async () => {
      await page.goto(url);
      const light = await brightness(page);
      await shot(page, `${name}-${colorScheme}`);
      return unless(colorScheme === 'light' ? light > 0.7 : light < 0.3, `its brightness is ${light.toFixed(2)}`);
    });
    await holds(`${name}, ${colorScheme}, is made of what comes from its own gateway`, () => foreign(page));
    await holds(`${name}, ${colorScheme}: links look like links`, () => recognizable(page));
    await holds(`${name}, ${colorScheme}: axe finds nothing serious`, () => accessible(page));
    await holds(`${name}, ${colorScheme}, fits in 360 px`, async () => {
      await narrow.goto(url);
      await shot(narrow, `${name}-${colorScheme}-narrow`);
      return wide(narrow);
    });
  }
  await holds(`nothing on the console, ${colorScheme}`, async () => [...(await wrong(page)), ...(await wrong(narrow))]);
  await page.context().close();
  await narrow.context().close();
}

// --- Keys alone

const keyboard = await open();
for (const [name, url] of PAGES.slice(0, 2)) {
  await holds(`${name}: Tab reaches everything, and is seen`, async () => {
    await keyboard.goto(url);
    const wanted = await keyboard.evaluate(() => {
      const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary')];
      const shown = all.filter((element) => element.checkVisibility() && !element.disabled);
      shown.forEach((element, n) => (element.dataset.tab = n));
      return shown.length;
    });
    const order = [];
    const problems = [];
    // A box that scrolls is a stop, too.
    for (let n = 0; n < wanted + 20 && new Set(order).size < wanted; n++) {
      await keyboard.keyboard.press('Tab');
      const at = await keyboard.evaluate(() => {
        const element = document.activeElement;
        const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
        const seen = (outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1) || boxShadow !== 'none';
        const { width, height, top, bottom } = element.getBoundingClientRect();
        const inside = width > 0 && height > 0 && bottom > 0 && top < innerHeight;
        return { tab: element.dataset.tab, seen, inside, what: element.outerHTML.slice(0, 120) };
      });
      if (at.tab !== undefined) order.push(Number(at.tab));
      if (at.what.startsWith('<body')) continue;
      if (!at.seen) problems.push(`focus is not to be seen on ${at.what}`);
      if (!at.inside) problems.push(`not in the window: ${at.what}`);
    }
    const reached = [...new Set(order)];
    problems.push(...unless(wanted > 0 && reached.length === wanted, `${reached.length} of ${wanted} reached`));
    problems.push(...unless(reached.every((tab, n) => tab === n), `another order than the document's: ${reached}`));
    return problems;
  });
  await shot(keyboard, `${name}-focus`);
}
await keyboard.context().close();

// --- No script

const still = await open({ javaScriptEnabled: false });
await holds('without scripts the page is complete', async () => {
  await still.goto(`${MONITOR}/`);
  const rows = await failures(still);
  const empty = [];
  for (const id of SECTIONS) {
    const text = await still.locator(`#${id}`).evaluate((element) => element.textContent.trim().length);
    if (text < 10) empty.push(`#${id} is empty`);
  }
  return [...(await structure(still)), ...empty, ...unless(rows.length === 2, `${rows.length} failures, not 2`)];
});
await holds("without scripts the file's page is complete, too", async () => {
  await row_of(still, FILE).locator('a').first().click();
  await still.waitForURL(is_page_of(FILE));
  const { states, problems } = await map(still, FILE.blocks);
  return [...problems, ...unless(states[FILE.bad] === 'bad', `block ${FILE.bad} is ${states[FILE.bad]}`)];
});
await shot(still, 'page-without-scripts');
await still.context().close();

// --- What left the browser

await browser.close();
await holds('every request goes to the monitor that the page is from', () => {
  const elsewhere = requests.filter((url) => ![MONITOR, RELAXED, GUARDED].includes(new URL(url).origin));
  return [...elsewhere.slice(0, 5), ...unless(requests.length > 20, `only ${requests.length} requests were seen`)];
});
await holds("Chromium's own log of the network names no other address", () => {
  const { constants, events } = JSON.parse(fs.readFileSync(netlog, 'utf8'));
  const ports = [MONITOR, RELAXED, GUARDED].map((origin) => new URL(origin).host);
  const { TCP_CONNECT_ATTEMPT, URL_REQUEST_START_JOB } = constants.logEventTypes;
  let connects = 0;
  const elsewhere = new Set();
  for (const { type, params } of events) {
    if (type === TCP_CONNECT_ATTEMPT && params?.address !== undefined) {
      connects++;
      if (!ports.includes(params.address)) elsewhere.add(`connects to ${params.address}`);
    }
    if (type === URL_REQUEST_START_JOB && params?.url !== undefined) {
      const { protocol, host } = new URL(params.url);
      if (['http:', 'https:', 'ws:', 'wss:'].includes(protocol) && !ports.includes(host)) elsewhere.add(`asks for ${params.url}`);
    }
  }
  return [...elsewhere, ...unless(connects > 20, `only ${connects} connects were seen`)];
});

if (notes.size > 0) console.log(['axe, not serious:', ...notes].join('\n  '));
console.log(`page: ${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
