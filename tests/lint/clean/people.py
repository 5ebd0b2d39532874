"""What people write to each other: with and without MIME, in many languages and charsets, by many programs."""

from __future__ import annotations

from tests.lint.clean.writing import DATE, PDF, PNG, Shape, b64, b_word, crlf, head, qp

PLAIN = "Hello Bob,\n\nthe meeting is at ten. Please bring the figures of October.\n\n-- \nAnn\n"


def _plain(charset: str, encoding: str, subject: str, body: str) -> bytes:
    fields = f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {encoding}\n"
    encoded = {"base64": lambda: b64(body.encode(charset)), "quoted-printable": lambda: qp(body, charset)}
    if encoding in encoded:
        return crlf(head(subject, more=fields) + "\n" + encoded[encoding]())
    return crlf(head(subject, more=fields) + "\n") + crlf(body, charset)


NO_MIME = f"""
Date: {DATE}
From: ann@example.com
To: bob@example.org
Subject: No MIME at all
Message-ID: <1@example.com>

{PLAIN}"""

EMPTY_BODY = head("Call me", more="Content-Type: text/plain; charset=us-ascii\n") + "\n"

NO_BODY = head("Call me, please", more="Content-Type: text/plain; charset=us-ascii\n")

FLOWED = head(more="Content-Type: text/plain; charset=UTF-8; format=flowed; delsp=yes\nContent-Language: en-GB\n") + (
    "\nThe lines of this paragraph end with a blank: a reader \nmay join them again.\n\n> quoted text\n-- \nAnn\n"
)

GMAIL = f"""
MIME-Version: 1.0
Date: {DATE}
References: <CAAbc+d=1@mail.example.com> <CAAbc+d=2@mail.example.com>
In-Reply-To: <CAAbc+d=2@mail.example.com>
Message-ID: <CAAbc+d_e=3+Xy@mail.example.com>
Subject: Re: lunch
From: Ann Lee <ann@example.com>
To: Bob Ray <bob@example.org>
Cc: "Ray, Carol" <carol@example.org>, dan@example.net
Content-Type: multipart/alternative; boundary="0000000000009f7b3e05d2a1c0de"

--0000000000009f7b3e05d2a1c0de
Content-Type: text/plain; charset="UTF-8"

Fine with me.

On Sat, Nov 21, 2026 at 9:00 AM Bob Ray <bob@example.org> wrote:

> Shall we have lunch?
>

--0000000000009f7b3e05d2a1c0de
Content-Type: text/html; charset="UTF-8"
Content-Transfer-Encoding: quoted-printable

<div dir=3D"ltr">Fine with me.</div><br><div class=3D"gmail_quote"><div dir=
=3D"ltr" class=3D"gmail_attr">On Sat, Nov 21, 2026 at 9:00 AM Bob Ray wrote:=
<br></div><blockquote class=3D"gmail_quote" style=3D"margin:0px 0px 0px 0.8e=
x">Shall we have lunch?</blockquote></div>

--0000000000009f7b3e05d2a1c0de--
"""

APPLE = f"""
From: Ann Lee <ann@example.com>
Content-Type: multipart/alternative;
\tboundary="Apple-Mail=_3B8C6B4E-0D3A-4F5C-9B0E-0F5E7C1D2A3B"
Mime-Version: 1.0 (Mac OS X Mail 16.0 \\(3826.200.121\\))
Subject: Pictures
Date: {DATE}
Message-Id: <3B8C6B4E-0D3A-4F5C-9B0E-0F5E7C1D2A3B@example.com>
To: Bob Ray <bob@example.org>
X-Mailer: Apple Mail (2.3826.200.121)

--Apple-Mail=_3B8C6B4E-0D3A-4F5C-9B0E-0F5E7C1D2A3B
Content-Transfer-Encoding: 7bit
Content-Type: text/plain;
\tcharset=us-ascii

Here they are.


--Apple-Mail=_3B8C6B4E-0D3A-4F5C-9B0E-0F5E7C1D2A3B
Content-Type: multipart/related;
\ttype="text/html";
\tboundary="Apple-Mail=_5E"


--Apple-Mail=_5E
Content-Transfer-Encoding: 7bit
Content-Type: text/html;
\tcharset=us-ascii

<html><head><meta http-equiv="content-type" content="text/html; charset=us-ascii"></head><body>Here they are.<br><img
 id="1" src="cid:F2@example.com" alt="one.png"></body></html>
--Apple-Mail=_5E
Content-Transfer-Encoding: base64
Content-Disposition: inline;
\tfilename=one.png
Content-Type: image/png;
\tx-unix-mode=0644;
\tname="one.png"
Content-Id: <F2@example.com>

{b64(PNG)}
--Apple-Mail=_5E--

--Apple-Mail=_3B8C6B4E-0D3A-4F5C-9B0E-0F5E7C1D2A3B--
"""

EXCHANGE = f"""
Received: from AM0PR01MB1234.eurprd01.prod.example.net (2603:10a6::1) by
 AM0PR01MB5678.eurprd01.prod.example.net (2603:10a6::2) with Microsoft SMTP
 Server (version=TLS1_2, cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id
 15.20.9000.10; Sun, 22 Nov 2026 09:15:01 +0000
From: "Lee, Ann" <ann@example.com>
To: "Ray, Bob" <bob@example.org>
Subject: Offer 2026-118
Thread-Topic: Offer
Thread-Index: AdsC1xYzQmFzZTY0IGlzIGhlcmU=
Date: Sun, 22 Nov 2026 09:15:00 +0000
Message-ID: <AM0PR01MB1234ABCDEF@AM0PR01MB1234.eurprd01.prod.example.net>
Accept-Language: en-US, de-DE
Content-Language: en-US
X-MS-Has-Attach: yes
X-MS-TNEF-Correlator:
Content-Type: multipart/mixed;
\tboundary="_004_AM0PR01MB1234ABCDEF_"
MIME-Version: 1.0

--_004_AM0PR01MB1234ABCDEF_
Content-Type: multipart/alternative;
\tboundary="_000_AM0PR01MB1234ABCDEF_"

--_000_AM0PR01MB1234ABCDEF_
Content-Type: text/plain; charset="iso-8859-1"
Content-Transfer-Encoding: quoted-printable

Dear Bob, the offer is attached. Gr=FC=DFe, Ann

--_000_AM0PR01MB1234ABCDEF_
Content-Type: text/html; charset="iso-8859-1"
Content-Transfer-Encoding: quoted-printable

<html><head><style type=3D"text/css" style=3D"display:none;"> P {{margin-top:0;}} </style></head>
<body dir=3D"ltr"><div>Dear Bob, the offer is attached. Gr=FC=DFe, Ann</div></body></html>

--_000_AM0PR01MB1234ABCDEF_--

--_004_AM0PR01MB1234ABCDEF_
Content-Type: application/pdf; name="Offer 2026-118.pdf"
Content-Description: Offer 2026-118.pdf
Content-Disposition: attachment; filename="Offer 2026-118.pdf"; size=404;
\tcreation-date="Sun, 22 Nov 2026 09:14:00 GMT"
Content-Transfer-Encoding: base64

{b64(PDF)}
--_004_AM0PR01MB1234ABCDEF_--
"""

TNEF = (
    head("Room change", more='Content-Type: multipart/mixed; boundary="tnef"\nX-MS-TNEF-Correlator: <x@example.com>\n')
    + f"""
--tnef
Content-Type: text/plain; charset="us-ascii"

We meet in room 4.

--tnef
Content-Type: application/ms-tnef; name="winmail.dat"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="winmail.dat"

{b64(bytes.fromhex("789f3e22010001069008000400000000000100") * 5)}
--tnef--
"""
)

EIGHT_BIT = (
    head(b_word("Größe"), more="Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n")
    + "\nDie Größe passt: 42 €. Viele Grüße\n"
)

NAMES = (
    head(
        "Files",
        more="Content-Type: multipart/mixed; boundary=f\n",
        sender="=?iso-8859-1?Q?Ren=E9_Dupont?= <rene@example.com>",
    )
    + f"""
--f
Content-Type: text/plain; charset=us-ascii

See both.

--f
Content-Type: application/pdf;
 name*0*=utf-8''%c3%9cbersicht%20der%20;
 name*1*=Ums%c3%a4tze.pdf
Content-Disposition: attachment;
 filename*0*=utf-8''%c3%9cbersicht%20der%20;
 filename*1*=Ums%c3%a4tze.pdf
Content-Transfer-Encoding: base64

{b64(PDF)}
--f
Content-Type: application/pdf; name="{b_word("Umsätze.pdf")}"
Content-Disposition: attachment; filename="{b_word("Umsätze.pdf")}"
Content-Transfer-Encoding: base64

{b64(PDF)}
--f--
"""
)

FORWARDED = (
    head("Fwd: lunch", more="Content-Type: multipart/mixed; boundary=fwd\nReferences: <2@example.org>\n")
    + """
--fwd
Content-Type: text/plain; charset=utf-8

For your files.

--fwd
Content-Type: message/rfc822; name="lunch.eml"
Content-Disposition: attachment; filename="lunch.eml"

Date: Mon, 2 Mar 2009 10:00:00 +0000
From: Carol <carol@example.org>
To: ann@example.com
Subject: lunch
Message-ID: <2@example.org>
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="inner"

--inner
Content-Type: text/plain

At one?
--inner
Content-Type: text/html

<p>At one?</p>
--inner--

--fwd--
"""
)

RESENT = f"""
Resent-Date: {DATE}
Resent-From: Ann Lee <ann@example.com>
Resent-To: dan@example.net
Resent-Message-ID: <r1@example.com>
Date: Mon, 2 Mar 2009 10:00:00 +0000
From: Carol <carol@example.org>
To: ann@example.com
Subject: An old letter
Message-ID: <2@example.org>

Hello Ann
"""

SMTPUTF8 = """
Date: Sun, 22 Nov 2026 10:15:00 +0100
From: 田中 <田中@example.jp>
To: Борис <борис@example.org>
Subject: こんにちは
Message-ID: <1@example.jp>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

やあ
"""

MANY_RECIPIENTS = head("Party", to=",\n ".join(f"Guest {n} <guest{n}@example.org>" for n in range(120))) + f"\n{PLAIN}"

UNDISCLOSED = head("Party", to="undisclosed-recipients:;") + f"\n{PLAIN}"

COMMENTED = (
    head(
        "Old forms", sender="Ann (of sales) Lee <ann @ example . com> (at work)", more="Content-Type: text/plain (x)\n"
    )
    + f"\n{PLAIN}"
)

PATCH = (
    head(
        "[PATCH 1/2] mail: say what is wrong",
        more="Content-Type: text/plain; charset=UTF-8\nX-Mailer: git-send-email\n",
    )
    + """
Signed-off-by: Ann Lee <ann@example.com>
---
 mail.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/mail.c b/mail.c
--- a/mail.c
+++ b/mail.c
@@ -1,3 +1,3 @@
-\treturn 0;
+\treturn 1;
--
2.45.0

"""
)

SHAPES = (
    Shape("no MIME", crlf(NO_MIME)),
    Shape("empty body", crlf(EMPTY_BODY)),
    Shape("no body", crlf(NO_BODY)),
    Shape("format=flowed", crlf(FLOWED)),
    Shape("Gmail reply", crlf(GMAIL)),
    Shape("Apple Mail with a picture", crlf(APPLE)),
    Shape("Exchange with a PDF", crlf(EXCHANGE)),
    Shape("Outlook TNEF", crlf(TNEF)),
    Shape("8-bit UTF-8", crlf(EIGHT_BIT)),
    Shape("file names by RFC 2231 and RFC 2047", crlf(NAMES)),
    Shape("forwarded as message/rfc822", crlf(FORWARDED)),
    Shape("resent", crlf(RESENT)),
    Shape("SMTPUTF8", crlf(SMTPUTF8), "田中@example.jp".encode(), smtputf8=True),
    Shape("many recipients", crlf(MANY_RECIPIENTS)),
    Shape("undisclosed recipients", crlf(UNDISCLOSED)),
    Shape("comments and blanks of old", crlf(COMMENTED)),
    Shape("git send-email", crlf(PATCH)),
    Shape(
        "Japanese, ISO-2022-JP",
        _plain("iso-2022-jp", "7bit", b_word("会議の件", "iso-2022-jp"), "お世話になっております。\n"),
    ),
    Shape("Japanese, UTF-8", _plain("utf-8", "base64", b_word("会議の件"), "お世話になっております。\n" * 8)),
    Shape("Japanese, Shift_JIS", _plain("shift_jis", "base64", b_word("会議", "shift_jis"), "明日の会議です。\n")),
    Shape("Russian, KOI8-R", _plain("koi8-r", "8bit", b_word("Встреча", "koi8-r"), "Добрый день, Борис!\n")),
    Shape("Russian, Windows-1251", _plain("windows-1251", "quoted-printable", b_word("Встреча"), "Добрый день!\n")),
    Shape("Arabic", _plain("utf-8", "base64", b_word("اجتماع الغد"), "السلام عليكم، الاجتماع غدا في العاشرة.\n")),
    Shape("Hebrew", _plain("iso-8859-8", "8bit", b_word("שלום", "iso-8859-8"), "שלום לכולם\n")),
    Shape("Chinese, GB2312", _plain("gb2312", "base64", b_word("会议", "gb2312"), "明天十点开会。\n")),
    Shape("Chinese, Big5", _plain("big5", "8bit", b_word("會議", "big5"), "明天十點開會。\n")),
    Shape("Korean, EUC-KR", _plain("euc-kr", "base64", b_word("회의", "euc-kr"), "내일 회의가 있습니다.\n")),
    Shape("Greek", _plain("iso-8859-7", "quoted-printable", b_word("Συνάντηση", "iso-8859-7"), "Καλημέρα\n")),
    Shape("Latin-1, 8-bit", _plain("iso-8859-1", "8bit", "=?iso-8859-1?Q?R=E9union?=", "À demain, René\n")),
    Shape("Hindi with joiners", _plain("utf-8", "base64", b_word("क्‍षमा"), "नमस्ते, क्‍षमा करें।\n")),
)
