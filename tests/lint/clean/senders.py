"""What is sent to many, or by shops and services: newsletters, notices, mailing lists."""

from __future__ import annotations

from tests.lint.clean.writing import DATE, PNG, Shape, b64, b_word, crlf, head, qp

UNSUBSCRIBE = """List-Unsubscribe: <https://news.example.com/u/f3b2>,
 <mailto:unsubscribe@news.example.com?subject=f3b2>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
"""
ALTERNATIVE = "Content-Type: multipart/alternative; boundary=alt\n"

PAGE = """<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" lang="LANG"><head>
<meta http-equiv="Content-Type" content="text/html; charset=utf-8" />
<meta name="viewport" content="width=device-width" />
<title>TITLE</title>
<style type="text/css">@media only screen and (max-width:480px){.col{width:100% !important}} a{color:#06c}</style>
<!--[if mso]><style type="text/css">table {border-collapse:collapse}</style><![endif]-->
</head><body style="margin:0;background:#f4f4f4">
<div style="display:none;max-height:0;overflow:hidden">TITLE&nbsp;&zwnj;&nbsp;&zwnj;&nbsp;&zwnj;</div>
<table role="presentation" width="100%" cellpadding="0" cellspacing="0"><tbody><tr><td align="center">
<!--[if mso]><table width="600"><tr><td><![endif]-->
<table role="presentation" width="600"><tbody>
<tr><td style="background:#003366;color:#ffffff;padding:20px"><h1 style="color:#ffffff">TITLE</h1></td></tr>
<tr><td><p>TEXT</p><p><a href="https://news.example.com/c/1?u=f3b2">MORE</a></p>
<img src="https://news.example.com/o/f3b2.gif" width="1" height="1" alt="" /></td></tr>
<tr><td style="font-size:11px;color:#888888">Example Ltd, 1 High Street<br /><a href="https://news.example.com/u/f3b2">BYE</a></td></tr>
</tbody></table>
<!--[if mso]></td></tr></table><![endif]-->
</td></tr></tbody></table></body></html>
"""


def _newsletter(lang: str, title: str, text: str, more: str, bye: str) -> bytes:
    page = PAGE.replace("LANG", lang).replace("TITLE", title).replace("TEXT", text)
    page = page.replace("MORE", more).replace("BYE", bye)
    fields = f"{UNSUBSCRIBE}List-Id: <autumn.news.example.com>\nFeedback-ID: 17:autumn:example\n{ALTERNATIVE}"
    return crlf(
        head(b_word(title), sender="Example News <news@news.example.com>", more=fields)
        + f"""
--alt
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

{qp(f"{title}{chr(10)}{text}{chr(10)}{bye}: https://news.example.com/u/f3b2{chr(10)}")}
--alt
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

{qp(page)}
--alt--
"""
    )


AMP = (
    head("Your poll", sender="Polls <polls@news.example.com>", more=UNSUBSCRIBE + ALTERNATIVE)
    + """
--alt
Content-Type: text/plain; charset=utf-8

Vote at https://news.example.com/poll/1
To unsubscribe: https://news.example.com/u/f3b2
--alt
Content-Type: text/x-amp-html; charset=utf-8

<!doctype html><html amp4email data-css-strict><head><meta charset="utf-8">
<script async src="https://cdn.ampproject.org/v0.js"></script>
<style amp4email-boilerplate>body{visibility:hidden}</style>
</head><body><p>Vote</p></body></html>
--alt
Content-Type: text/html; charset=utf-8

<html><body><p><a href="https://news.example.com/poll/1">Vote</a></p>
<p><a href="https://news.example.com/u/f3b2">Unsubscribe</a></p></body></html>
--alt--
"""
)

RECEIPT = (
    head(
        "Your order 4711",
        sender='"Example Shop" <orders@example.com>',
        more="Content-Type: multipart/related; boundary=rel\n",
    )
    + f"""
--rel
Content-Type: multipart/alternative; boundary=alt

--alt
Content-Type: text/plain; charset=utf-8

Thank you for your order 4711: 2 lamps, 59.90 EUR.
--alt
Content-Type: text/html; charset=utf-8

<html><body><p><img src="cid:logo@example.com" alt="Example Shop"></p>
<table><tr><td>2 lamps</td><td>59.90 EUR</td></tr></table></body></html>
--alt--
--rel
Content-Type: image/png
Content-ID: <logo@example.com>
Content-Transfer-Encoding: base64
Content-Disposition: inline; filename="logo.png"

{b64(PNG)}
--rel--
"""
)

RESET = (
    head(
        "Reset your password",
        sender="Example <no-reply@example.com>",
        more="Auto-Submitted: auto-generated\n" + ALTERNATIVE,
    )
    + """
--alt
Content-Type: text/plain; charset=utf-8

Follow https://example.com/reset/9f8e7d within an hour.
--alt
Content-Type: text/html; charset=utf-8

<html><body><p><a href="https://example.com/reset/9f8e7d">Choose a new password</a></p></body></html>
--alt--
"""
)

NOTICE = (
    head(
        "Re: [example/mail] Crash on an empty header (#17)",
        sender="Ann Lee <notifications@example.com>",
        to="example/mail <mail@noreply.example.com>",
        more=f"""In-Reply-To: <example/mail/issues/17@example.com>
References: <example/mail/issues/17@example.com>
Precedence: list
X-Auto-Response-Suppress: All
List-ID: example/mail <mail.example.example.com>
List-Archive: https://example.com/example/mail
List-Post: <mailto:reply+A7@reply.example.com>
{UNSUBSCRIBE}{ALTERNATIVE}""",
    )
    + """
--alt
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 7bit

I can see it too.

--
Reply to this email directly or unsubscribe: https://news.example.com/u/f3b2
--alt
Content-Type: text/html; charset=UTF-8
Content-Transfer-Encoding: 7bit

<p></p><p dir="auto">I can see it too.</p><p>&mdash;<br>Reply to this email directly or
<a href="https://news.example.com/u/f3b2">unsubscribe</a>.</p>
--alt--
"""
)

MAILMAN = f"""
Received: from lists.example.org (localhost [127.0.0.1])
\tby lists.example.org (Postfix) with ESMTP id 4dF2Tq0Xn5z1
\tfor <bob@example.org>; Sun, 22 Nov 2026 10:16:00 +0100 (CET)
Date: {DATE}
Subject: [dev] Release plan
To: dev@lists.example.org
From: Ann Lee via dev <dev@lists.example.org>
Reply-To: Ann Lee <ann@example.com>
Message-ID: <4F3@example.com>
MIME-Version: 1.0
Content-Type: text/plain; charset="us-ascii"; Format="flowed"
Content-Transfer-Encoding: 7bit
Precedence: list
List-Id: Developers <dev.lists.example.org>
Archived-At: <https://lists.example.org/archives/list/dev@lists.example.org/message/4F3/>
List-Archive: <https://lists.example.org/archives/list/dev@lists.example.org/>
List-Help: <mailto:dev-request@lists.example.org?subject=help>
List-Post: <mailto:dev@lists.example.org>
List-Subscribe: <mailto:dev-join@lists.example.org>
List-Unsubscribe: <mailto:dev-leave@lists.example.org>
Errors-To: dev-bounces@lists.example.org
Sender: "dev" <dev-bounces@lists.example.org>

We release on Monday.
_______________________________________________
dev mailing list -- dev@lists.example.org
To unsubscribe send an email to dev-leave@lists.example.org
"""

DIGEST = f"""
From: dev-request@lists.example.org
Subject: dev Digest, Vol 9, Issue 3
To: dev@lists.example.org
Reply-To: dev@lists.example.org
Date: {DATE}
Message-ID: <mailman.3.1763802900.17.dev@lists.example.org>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="===============6831=="
Precedence: list
List-Id: Developers <dev.lists.example.org>
List-Post: <mailto:dev@lists.example.org>
List-Unsubscribe: <https://lists.example.org/options/dev>,
 <mailto:dev-request@lists.example.org?subject=unsubscribe>

--===============6831==
Content-Type: text/plain; charset="us-ascii"
MIME-Version: 1.0
Content-Transfer-Encoding: 7bit
Content-Description: dev Digest, Vol 9, Issue 3

Today's Topics:

   1. Release plan (Ann Lee)

--===============6831==
Content-Type: multipart/digest; boundary="===============4242=="
MIME-Version: 1.0

--===============4242==

From: Ann Lee <ann@example.com>
Subject: Release plan
Date: Sat, 21 Nov 2026 10:00:00 +0000
Message-ID: <4F3@example.com>

We release on Monday.

--===============4242==--

--===============6831==--
"""

GERMAN = ("de", "Neues im Herbst", "Grüße aus München: alle Lampen 20 % günstiger.", "Mehr erfahren", "Abmelden")
FRENCH = ("fr", "Les nouveautés d'automne", "Découvrez nos lampes à prix réduit.", "En savoir plus", "Se désabonner")
JAPANESE = ("ja", "秋の新商品", "照明が二割引きです。", "詳しく見る", "配信停止")
ARABIC = ("ar", "عروض الخريف", "خصم على جميع المصابيح.", "اقرأ المزيد", "إلغاء الاشتراك")

SHAPES = (
    Shape(
        "newsletter, one-click", _newsletter("en", "Autumn lamps", "All lamps are cheaper.", "Read more", "Unsubscribe")
    ),
    Shape("newsletter, German", _newsletter(*GERMAN)),
    Shape("newsletter, French", _newsletter(*FRENCH)),
    Shape("newsletter, Japanese", _newsletter(*JAPANESE)),
    Shape("newsletter, Arabic", _newsletter(*ARABIC)),
    Shape("AMP", crlf(AMP)),
    Shape("receipt with a logo", crlf(RECEIPT)),
    Shape("password reset", crlf(RESET)),
    Shape("notice of an issue tracker", crlf(NOTICE)),
    Shape("mailing list, Mailman", crlf(MAILMAN), b"dev-bounces@lists.example.org"),
    Shape("mailing list digest", crlf(DIGEST), b"dev-bounces@lists.example.org"),
)
