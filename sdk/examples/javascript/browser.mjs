// Drop a file on the page in headless Chromium: node browser.mjs URL FILE SCREENSHOT [CHROMIUM].
// Prints the embeddings that the page made, how long it took, and what the page asked the network for.
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { chromium } from "playwright-core";

const [url, file, screenshot, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
const quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"];
const browser = await chromium.launch({ executablePath, args: quiet });
try {
  const page = await browser.newPage({ viewport: { width: 1000, height: 900 } });
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(url);
  await page.waitForFunction(() => !document.getElementById("status").textContent.startsWith("Loading"));
  const ready = await page.textContent("#status");
  const content = await readFile(file, "utf8");
  await page.evaluate(
    ([text, name]) => {
      const data = new DataTransfer();
      data.items.add(new File([text], name));
      document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data }));
    },
    [content, basename(file)],
  );
  await page.waitForFunction(() => /embedded/.test(document.getElementById("status").textContent));
  await page.screenshot({ path: screenshot });
  const found = await page.evaluate(() => ({
    embeddings: window.embeddings,
    milliseconds: window.milliseconds,
    status: document.getElementById("status").textContent,
  }));
  console.log(JSON.stringify({ ready, asked, ...found }));
} finally {
  await browser.close();
}
