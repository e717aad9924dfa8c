"""Write the pictures of the console that the documents show: make pictures.

Everything in them is made up. They show the real console, at work in Chromium, in the fonts of this machine.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from playwright.async_api import Browser

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fakes.browsing import Standing, approve_in_browser, chromium, log_in, standing  # noqa: E402
from fakes.events import DIGEST, completion, decision  # noqa: E402
from fakes.valkey import Server  # noqa: E402
from fakes.valkey import running as valkey  # noqa: E402

from ext_authz.server import new_decision_id  # noqa: E402
from rankgate.approvals import Ask, Caller, PlanSummary, Preview, Requirement  # noqa: E402
from rankgate.audit import Call, Plan  # noqa: E402
from rankgate.audit import Caller as AuditCaller  # noqa: E402
from rankgate.audit.entry import to_fields  # noqa: E402
from rankgate.audit.names import stream_key  # noqa: E402
from rankgate.audit.ocsf import Source, render  # noqa: E402

FOLDER = ROOT / "docs" / "img" / "console"
ISSUER = "https://kubernetes.default.svc"
PREVIEW = Preview(
    "Which customers named <PERSON> complained about the refund to <IBAN_CODE>?",
    "Prefer tickets of the last quarter.",
    (
        (0, "Ticket 4411: <PERSON> writes from <EMAIL_ADDRESS> that the refund to <IBAN_CODE> never arrived."),
        (1, "Ticket 4398: a general question about delivery to Portugal, answered the same day."),
        (2, "Ticket 4120: <PERSON> called <PHONE_NUMBER>; the card was charged twice."),
    ),
)


def machine(subject: str, tenant: str, *owners: str) -> Caller:
    return Caller(ISSUER, subject, tenant, (subject,), owners, ())


async def fill(console: Standing) -> tuple[Ask, Ask]:
    """Open a few approvals; return the one that needs two people and the one that one person decides."""
    await console.ask(
        PREVIEW, ago_s=400, caller=machine("nightly-indexer", "platform", "ada@acme.example"), risk=None, findings={},
        model=None, document_count=812, reasons=("more than 500 documents in one call",), route="index",
    )  # fmt: skip
    await console.ask(
        PREVIEW, ago_s=31, caller=machine("contract-search", "legal"), risk="medium", findings={"ORGANIZATION": 3},
        model="BAAI/bge-reranker-v2-m3", reasons=("a new caller of this route",), route="contracts", document_count=18,
    )  # fmt: skip
    made_ms = 1000 * (int(time.time()) - 212)
    single = await console.ask(
        PREVIEW, ago_s=212, caller=machine("ticket-ranker", "support"), risk="high", route="support-tickets",
        findings={"PERSON": 3, "EMAIL_ADDRESS": 2, "IBAN_CODE": 2, "PHONE_NUMBER": 1}, model="rerank-v3.5",
        upstream="https://rerank.internal", policy_revision="bundle-2026-11-24.3", total_chars=1840,
        decision_id=new_decision_id(made_ms / 1000),
        reasons=("the query names a person and an account together", "outside the hours agreed for support-tickets"),
    )  # fmt: skip
    expires_ms = 1000 * (int(time.time()) + 205)
    double = await console.ask(
        PREVIEW, ago_s=95, caller=machine("hr-assistant", "people-ops"), risk="critical", route="hr-records",
        requirement=Requirement(("approvers",), 2, 300), expires_ms=expires_ms, document_count=42, total_chars=188_000,
        findings={"PERSON": 11, "DATE_OF_BIRTH": 4, "US_SSN": 4}, model="rerank-v3.5",
        upstream="https://rerank.internal", plan=PlanSummary("strict", "strict", (3, 8, 9), 39, "minted"),
        policy_revision="bundle-2026-11-24.3", decision_id=new_decision_id(time.time() - 95),
        reasons=("documents hold national ids", "two people agree to anything about hr-records"),
    )  # fmt: skip
    return double, single


def ship(server: Server, ask: Ask) -> str:
    """Put into the trail how an approval was used; return the receipt's id."""
    wanted, ms = ask.decision_id, ask.opened_ms
    caller = AuditCaller(ISSUER, ask.caller.subject, ask.caller.tenant)
    call = Call(
        request_id="4f1c2b", route=ask.route, method="POST", path=ask.path, source_address="10.0.3.17",
        dialect=ask.dialect, operation="rerank", model=ask.model, document_count=3, total_chars=ask.total_chars,
    )  # fmt: skip
    events = (
        ("ext_authz", decision(
            decision_id=wanted, time=ms + 31_000, caller=caller, call=call, policy_reasons=ask.reasons, risk=ask.risk,
            policy_revision=ask.policy_revision, findings=ask.findings, plan=Plan("default", "default", (), 3),
            lease="9c41d07be25f", detail="", duration_us=30_412_000,
        )),
        ("ext_proc", completion(
            decision_id=wanted, time=ms + 31_090, caller=caller, masked_request=ask.findings,
            masked_response={"EMAIL_ADDRESS": 2}, upstream_ms=64,
        )),
    )  # fmt: skip
    with server.client() as client:
        for role, event in events:
            log = f"gate-7d9f/{role}-0/1790000000000"
            fields = to_fields(render(event, Source("default", log, "0.1.0", DIGEST), 5128))
            client.xadd(stream_key("default", log), fields, id=f"{event.time}-5128")
    return wanted


PIXELS = """async picture => {
  const image = new Image();
  image.src = `data:image/png;base64,${picture}`;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const bytes = canvas.getImageData(0, 0, image.width, image.height).data;
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return [image.width, image.height, btoa(text)];
}"""


async def small(browser: Browser, picture: bytes) -> bytes:
    """Return a picture in 256 colours, less than half as large: it is text, mostly."""
    page = await browser.new_page()
    width, height, text = await page.evaluate(PIXELS, base64.b64encode(picture).decode())
    await page.close()
    pixels = np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, 4)[:, :3]
    colours, which, times = np.unique(pixels, axis=0, return_inverse=True, return_counts=True)
    kept = np.empty((0, 3), np.uint8)
    for colour in colours[np.argsort(-times)]:
        # Shades of what is there already are left out, so that what is rare keeps its colour.
        if len(kept) < 256 and not (((kept.astype(int) - colour) ** 2).sum(axis=1) < 12**2).any():
            kept = np.vstack([kept, colour])
    distance = ((colours[:, None].astype(int) - kept[None].astype(int)) ** 2).sum(axis=2)
    rows = distance.argmin(axis=1).astype(np.uint8)[which.reshape(-1)].reshape(height, width)
    raw = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)), (b"PLTE", kept.tobytes()),
        (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""),
    )  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


async def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with valkey() as server, tempfile.TemporaryDirectory() as folder:
        async with standing(Path(folder), server.url, server.url) as console, chromium() as browser:
            double, single = await fill(console)
            bob = await (await browser.new_context()).new_page()
            await approve_in_browser(bob, f"{console.origin}/approvals/{double.id}", "bob", "Checked with payroll.")
            shots = (
                ("queue-light", "/", 1280, "light"), ("queue-dark", "/", 1280, "dark"),
                ("queue-narrow", "/", 360, "light"), ("approval-light", f"/approvals/{double.id}", 1280, "light"),
                ("approval-dark", f"/approvals/{double.id}", 1280, "dark"),
                ("receipt-light", f"/receipts/{ship(server, single)}", 1280, "light"),
            )  # fmt: skip
            for name, path, width, scheme in shots:
                if name.startswith("receipt"):
                    url = f"{console.origin}/approvals/{single.id}"
                    await approve_in_browser(bob, url, "bob", "The customer asked for this in writing, SUP-881.")
                size = {"width": width, "height": 900 if name.startswith("approval") else 800}
                context = await browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
                page = await context.new_page()
                await page.goto(f"{console.origin}{path}")
                await log_in(page, "vera" if name.startswith("receipt") else "ada")
                if name.startswith("queue"):
                    await page.get_by_text("Up to date").wait_for()
                picture = await small(browser, await page.screenshot())
                (FOLDER / f"{name}.png").write_bytes(picture)
                await context.close()
    for path in sorted(FOLDER.glob("*.png")):
        print(f"{path.relative_to(ROOT)} {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    asyncio.run(main())
