"""What programs write: reports, answers, calendars, signed and encrypted mail, cron, scanners, large files."""

from __future__ import annotations

from tests.lint.clean.writing import DATE, PDF, Shape, b64, crlf, head, qp

CRON = f"""
Received: by host.example.com (Postfix, from userid 0)
\tid 4dF2Tq0Xn5z1; Sun, 22 Nov 2026 10:15:00 +0100 (CET)
From: root@host.example.com (Cron Daemon)
To: root@host.example.com
Subject: Cron <root@host> test -x /usr/sbin/anacron || run-parts /etc/cron.daily
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit
X-Cron-Env: <SHELL=/bin/sh>
X-Cron-Env: <HOME=/root>
Message-Id: <20261122091500.4dF2Tq0Xn5z1@host.example.com>
Date: {DATE} (CET)

run-parts: /etc/cron.daily/backup exited with return code 1
"""

POSTFIX_DSN = f"""
Date: {DATE} (CET)
From: MAILER-DAEMON@mx.example.com (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: ann@example.com
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4dF2Tq0Xn5z1.1763802900/mx.example.com"
Content-Transfer-Encoding: 8bit
Message-Id: <20261122091500.5AB12C@mx.example.com>

This is a MIME-encapsulated message.

--4dF2Tq0Xn5z1.1763802900/mx.example.com
Content-Description: Notification
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

This is the mail system at host mx.example.com.

<bob@example.org>: host mail.example.org[192.0.2.9] said: 550 5.1.1
    <bob@example.org>: user unknown (in reply to RCPT TO command)

--4dF2Tq0Xn5z1.1763802900/mx.example.com
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.com
X-Postfix-Queue-ID: 4dF2Tq0Xn5z1
Arrival-Date: {DATE} (CET)

Final-Recipient: rfc822; bob@example.org
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 <bob@example.org>: user unknown

--4dF2Tq0Xn5z1.1763802900/mx.example.com
Content-Description: Undelivered Message
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Return-Path: <ann@example.com>
Date: Thu, 1 Oct 2026 10:00:00 +0000
From: ann@example.com
To: bob@example.org
Subject: lunch
Message-ID: <1@example.com>

Hello

--4dF2Tq0Xn5z1.1763802900/mx.example.com--
"""

EXIM_BOUNCE = f"""
Received: from Debian-exim by mx.example.com with local (Exim 4.96)
\tid 1xV6OT-00027i-0W
\tfor ann@example.com;
\tSun, 22 Nov 2026 10:15:00 +0100
X-Failed-Recipients: bob@example.org
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mx.example.com>
To: ann@example.com
Content-Type: text/plain; charset=us-ascii
MIME-Version: 1.0
Subject: Mail delivery failed: returning message to sender
Message-Id: <E1xV6OT-00027i-0W@mx.example.com>
Date: {DATE}

This message was created automatically by mail delivery software.

  bob@example.org
    no such user
"""

EXIM_CUT = (
    EXIM_BOUNCE.replace("Content-Type: text/plain; charset=us-ascii", "Content-Type: multipart/report; boundary=cut")
    + """
--cut
Content-type: text/plain; charset=us-ascii

This message was created automatically by mail delivery software.

--cut
Content-type: message/delivery-status

Reporting-MTA: dns; mx.example.com

Action: failed
Final-Recipient: rfc822;bob@example.org
Status: 5.0.0

--cut
Content-type: message/rfc822

Return-path: <ann@example.com>
From: Ann Lee <ann@example.com>
Subject: Grüße
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=inner

--inner
Content-Type: text/plain; charset=utf-8

Grüße; the rest of this message was cut off here
--cut--
"""
)

MDN = (
    head(
        "Read: lunch",
        more='Content-Type: multipart/report; report-type=disposition-notification; boundary="mdn"\n'
        "In-Reply-To: <1@example.org>\nAuto-Submitted: auto-replied\n",
    )
    + """
--mdn
Content-Type: text/plain; charset=utf-8

Your message was displayed.

--mdn
Content-Type: message/disposition-notification

Reporting-UA: host.example.com; Example 1.0
Final-Recipient: rfc822;ann@example.com
Original-Message-ID: <1@example.org>
Disposition: manual-action/MDN-sent-manually; displayed

--mdn
Content-Type: text/rfc822-headers

From: bob@example.org
Subject: lunch
Message-ID: <1@example.org>

--mdn--
"""
)

ARF = (
    head(
        "Complaint about a message",
        sender="<abuse-desk@example.com>",
        more='Content-Type: multipart/report; report-type=feedback-report; boundary="arf"\n',
    )
    + """
--arf
Content-Type: text/plain; charset="US-ASCII"
Content-Transfer-Encoding: 7bit

This is an email abuse report for a message received on Sun, 22 Nov 2026.

--arf
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: Example/1.0
Version: 1
Original-Mail-From: <news@shop.example>
Source-IP: 192.0.2.1

--arf
Content-Type: message/rfc822
Content-Disposition: inline

From: news@shop.example
To: bob@example.org
Subject: Offers
Date: Sat, 21 Nov 2026 10:00:00 +0000
Message-ID: <7@shop.example>
List-Unsubscribe: <mailto:u@shop.example>

Buy now
--arf--
"""
)

VACATION = (
    head(
        "Auto: lunch",
        more="Auto-Submitted: auto-replied (vacation)\nPrecedence: bulk\nIn-Reply-To: <1@example.org>\n"
        "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n",
    )
    + "\n"
    + qp("Ich bin bis 30. November im Urlaub. Viele Grüße\n")
)

INVITATION = """BEGIN:VCALENDAR
PRODID:-//Example//Calendar 1.0//EN
VERSION:2.0
METHOD:REQUEST
BEGIN:VEVENT
UID:1@example.com
DTSTAMP:20261122T091500Z
DTSTART:20261130T090000Z
SUMMARY:Budget
ORGANIZER:mailto:ann@example.com
ATTENDEE;RSVP=TRUE:mailto:bob@example.org
END:VEVENT
END:VCALENDAR
"""

CALENDAR = (
    head("Invitation: Budget", more="Content-Type: multipart/mixed; boundary=cal\nSender: Calendar <cal@example.com>\n")
    + f"""
--cal
Content-Type: multipart/alternative; boundary=alt

--alt
Content-Type: text/plain; charset=UTF-8; format=flowed; delsp=yes

You are invited to Budget.
--alt
Content-Type: text/html; charset=UTF-8
Content-Transfer-Encoding: quoted-printable

{qp("<html><body><p>You are invited to <b>Budget</b>.</p></body></html>")}
--alt
Content-Type: text/calendar; charset=UTF-8; method=REQUEST
Content-Transfer-Encoding: 7bit

{INVITATION}
--alt--
--cal
Content-Type: application/ics; name="invite.ics"
Content-Disposition: attachment; filename="invite.ics"
Content-Transfer-Encoding: base64

{b64(INVITATION.encode())}
--cal--
"""
)

CALENDAR_REPLY = head("Accepted: Budget", more="Content-Type: text/calendar; charset=utf-8; method=REPLY\n") + (
    "\n" + INVITATION.replace("REQUEST", "REPLY")
)

ARMOR = "\nhQEMA0xbZ7mAQEwKAQf/VJxqRk9fT2p3dGxlc3MgYnV0IG5vdCBzZW5zZWxlc3M=\n=9aBc\n"

PGP_SIGNED = (
    head(
        more='Content-Type: multipart/signed; micalg=pgp-sha512; boundary="sig";\n'
        '\tprotocol="application/pgp-signature"\n'
    )
    + f"""
This is an OpenPGP/MIME signed message (RFC 4880 and 3156)
--sig
Content-Type: multipart/mixed; boundary="inner";
 protected-headers="v1"
From: Ann Lee <ann@example.com>

--inner
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: quoted-printable

Signed =E2=9C=93

--inner--

--sig
Content-Type: application/pgp-signature; name="OpenPGP_signature.asc"
Content-Description: OpenPGP digital signature
Content-Disposition: attachment; filename="OpenPGP_signature"

-----BEGIN PGP SIGNATURE-----
{ARMOR}-----END PGP SIGNATURE-----

--sig--
"""
)

PGP_ENCRYPTED = (
    head("...", more='Content-Type: multipart/encrypted;\n protocol="application/pgp-encrypted"; boundary="enc"\n')
    + f"""
--enc
Content-Type: application/pgp-encrypted
Content-Description: PGP/MIME version identification

Version: 1

--enc
Content-Type: application/octet-stream; name="encrypted.asc"
Content-Disposition: inline; filename="encrypted.asc"

-----BEGIN PGP MESSAGE-----
{ARMOR}-----END PGP MESSAGE-----

--enc--
"""
)

PGP_INLINE = head() + f"\n-----BEGIN PGP MESSAGE-----\n{ARMOR}-----END PGP MESSAGE-----\n"

SMIME_SIGNED = (
    head(
        more='Content-Type: multipart/signed; micalg=sha-256; boundary="----ABC";\n'
        '\tprotocol="application/pkcs7-signature"\n'
    )
    + f"""
This is an S/MIME signed message

------ABC
Content-Type: text/plain; charset=us-ascii

Signed.
------ABC
Content-Type: application/pkcs7-signature; name="smime.p7s"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="smime.p7s"

{b64(bytes(range(200)))}
------ABC--

"""
)

SMIME_ENCRYPTED = (
    head(
        more='Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"\n'
        'Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename="smime.p7m"\n'
    )
    + "\n"
    + b64(bytes(range(250)))
)

SCANNER = (
    head("Scan", sender="scanner@example.com", more="Content-Type: multipart/mixed; boundary=scan\nX-Priority: 3\n")
    + f"""
--scan
Content-Type: application/pdf; name="SCN_0001.pdf"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="SCN_0001.pdf"

{b64(PDF)}
--scan--
"""
)

FAX = head(
    "Fax",
    more='Content-Type: image/tiff; name="fax.tif"\nContent-Transfer-Encoding: base64\nContent-ID: <f@example.com>\n',
) + ("\n" + b64(b"II*\0" + bytes(300)))

LARGE = (
    crlf(
        head("The film", more="Content-Type: multipart/mixed; boundary=large\n")
        + "\n--large\nContent-Type: text/plain\n\nSee the film.\n--large\n"
        + 'Content-Type: video/mp4; name="film.mp4"\nContent-Transfer-Encoding: base64\n'
        + 'Content-Disposition: attachment; filename="film.mp4"\n\n'
    )
    + (b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\r\n" * ((20 << 20) // 78))
    + b"--large--\r\n"
)

DMARC_REPORT = (
    head(
        "Report Domain: example.com Submitter: example.org Report-ID: 1",
        sender="noreply-dmarc@example.com",
        more='Content-Type: application/gzip; name="example.org!example.com!1763683200!1763769600.xml.gz"\n'
        'Content-Disposition: attachment; filename="example.org!example.com!1763683200!1763769600.xml.gz"\n'
        "Content-Transfer-Encoding: base64\n",
    )
    + "\n"
    + b64(bytes.fromhex("1f8b0800000000000003b3c9c82c5600a2928c54858c92dc1c3b00d1c8e0b415000000"))
)

NULL = b""

SHAPES = (
    Shape("Postfix, cron", crlf(CRON), b"root@host.example.com"),
    Shape("Postfix DSN", crlf(POSTFIX_DSN), NULL),
    Shape("Exim bounce", crlf(EXIM_BOUNCE), NULL),
    Shape("Exim bounce of a message that was cut", crlf(EXIM_CUT), NULL),
    Shape("MDN", crlf(MDN), NULL),
    Shape("ARF", crlf(ARF), b"abuse-desk@example.com"),
    Shape("vacation", crlf(VACATION), NULL),
    Shape("calendar invitation", crlf(CALENDAR)),
    Shape("calendar reply", crlf(CALENDAR_REPLY)),
    Shape("PGP/MIME signed", crlf(PGP_SIGNED)),
    Shape("PGP/MIME encrypted", crlf(PGP_ENCRYPTED)),
    Shape("PGP inline", crlf(PGP_INLINE)),
    Shape("S/MIME signed", crlf(SMIME_SIGNED)),
    Shape("S/MIME encrypted", crlf(SMIME_ENCRYPTED)),
    Shape("scanner", crlf(SCANNER), b"scanner@example.com"),
    Shape("fax, one part", crlf(FAX)),
    Shape("attachment of 20 MB", LARGE),
    Shape("DMARC report", crlf(DMARC_REPORT), b"noreply-dmarc@example.com"),
)
