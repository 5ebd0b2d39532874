"""The words of postmasters, crossed: each subject with each predicate of a cause must be read to that cause.

A grid is a list of columns; a cell takes one entry of each. Such grids show which member a family of words.toml lacks,
and which rule of another category hears what is not meant for it. The codes say as little as codes can.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from smtpguard.classify import load
from smtpguard.mail.reply import Reply

CLASSIFIER = load()

ENGLISH: list[tuple[str, str, list[str]]] = [
    (
        "recipient.unknown",
        "550",
        [
            "mailbox|account|user|recipient|address|addressee|alias|subscriber|email account|recipient address",
            "does not exist|is unknown|is invalid|was not found|is not listed here|cannot be found"
            "|could not be located"
            "|is not known here|is not known at this site|doesn't exist on this server|is nonexistent"
            "|is not recognised"
            "|never existed|is not registered here|has no mailbox here|is not a valid one|isn't in our directory"
            "|is not on file|does not match any of our records|could not be resolved to a mailbox",
        ],
    ),
    (
        "recipient.unknown",
        "550",
        [
            "no such|unknown|invalid|nonexistent|unrecognized|there is no|we have no|no known",
            "mailbox|account|user|recipient|address|alias|person",
            "here|on this server|at this domain|by that name|in our system",
        ],
    ),
    (
        "recipient.disabled",
        "550",
        [
            "mailbox|account|user|recipient|this address|email account|user account|the recipient's mailbox",
            "is disabled|has been disabled|is inactive|has been suspended|was deactivated|has been closed|is locked"
            "|has been deleted|has been terminated|is no longer active|is no longer in use|has expired|is frozen"
            "|has been discontinued|was cancelled|has been removed|is no longer monitored|has been shut down"
            "|is currently suspended|has been retired|was switched off|has been blocked for inactivity",
        ],
    ),
    (
        "recipient.full",
        "552",
        [
            "mailbox|the user's mailbox|recipient's inbox|user account|the recipient's storage|mail quota|the inbox",
            "is full|is over quota|has exceeded its quota|has reached its storage limit|is out of space"
            "|has no space left"
            "|is over its storage limit|has exceeded the storage limit|is over the allowed quota"
            "|has run out of storage"
            "|has insufficient space|exceeded its disk quota|has no room for more mail|is at capacity|is 100% full",
        ],
    ),
    (
        "recipient.full",
        "452",
        [
            "quota|storage limit|mailbox quota|storage quota|disk quota|mailbox space",
            "exceeded|reached|exhausted|used up",
            "for this user|for recipient|of the mailbox|for <user@example.com>",
        ],
    ),
    (
        "recipient.domain",
        "550",
        [
            "recipient domain|destination domain|the domain of the recipient|domain example.com",
            "does not exist|not found|is unknown|has no MX record|has no mail server|cannot be resolved"
            "|does not resolve"
            "|does not accept mail|has a null MX|is not resolvable|has no valid MX|could not be found in DNS"
            "|has no DNS entry",
        ],
    ),
    (
        "recipient.refused",
        "550",
        [
            "recipient|this mailbox|this user|this list|the group|this address",
            "only accepts mail from members|accepts mail from internal senders only|does not accept mail from outside"
            "|does not accept messages from you|accepts no external mail|has restricted who may send to it"
            "|only accepts mail from authenticated senders|has blocked you"
            "|does not want mail from you|may not be mailed from outside the organization",
        ],
    ),
    (
        "sender.invalid",
        "550",
        [
            "sender address|sender domain|the envelope sender|MAIL FROM domain|return path|the sender's domain",
            "does not exist|could not be verified|is invalid|is not valid|cannot be resolved|was not found"
            "|has no MX or A record|verification failed|does not resolve|is unroutable|cannot receive bounces"
            "|is undeliverable",
        ],
    ),
    (
        "sender.blocked",
        "550",
        [
            "sender|the sending domain|your domain|sender address|mail from this sender",
            "is blocked here|is on our blacklist|has been blacklisted|is banned|is not welcome here"
            "|has been blocked by us"
            "|is on our blocklist|is refused at this site",
        ],
    ),
    (
        "sender.not_owned",
        "553",
        [
            "you are not allowed to send as|not authorized to send as|user does not own the sender"
            "|login does not match the sender|you may not use the sender"
            "|sender mismatch, you do not own|authenticated user may not send as",
            "this address|<user@example.com>",
        ],
    ),
    (
        "identity.no_rdns",
        "550",
        [
            "your IP address|192.0.2.7|client IP|the connecting host|sending server",
            "has no reverse DNS|has no PTR record|does not have a PTR|lacks a PTR record|has no rDNS entry"
            "|does not resolve to a host name|reverse lookup failed|has no valid reverse DNS|has a missing PTR"
            "|has a generic PTR record|forward and reverse DNS do not match",
        ],
    ),
    (
        "identity.bad_helo",
        "550",
        [
            "HELO|EHLO|the HELO name|your HELO|HELO hostname|EHLO argument",
            "is invalid|does not resolve|is not a fully qualified name|is bogus|rejected|is not valid"
            "|cannot be resolved"
            "|must be a resolvable host name|is forged|is our own name|does not match your IP",
        ],
    ),
    (
        "auth.spf",
        "550",
        [
            "SPF check|SPF|SPF validation|the SPF record of example.org|Sender Policy Framework check",
            "failed|fails|did not pass|does not permit this host|rejects your IP|says no|returned hard fail"
            "|does not authorize 192.0.2.7|is violated",
        ],
    ),
    (
        "auth.dkim",
        "550",
        [
            "DKIM signature|DKIM|DKIM verification|the DKIM check|DKIM key",
            "failed|is invalid|did not verify|is missing|is broken|could not be verified|did not pass|is too short"
            "|is bad|not found",
        ],
    ),
    (
        "auth.dmarc",
        "550",
        [
            "DMARC check|DMARC|DMARC evaluation|the DMARC policy of example.org|DMARC validation",
            "failed|fails|did not pass|rejects this message|says reject|demands rejection|is violated|not satisfied",
        ],
    ),
    (
        "reputation.ip_listed",
        "554",
        [
            "your IP address|192.0.2.7|your mail server|the sending IP|client host [192.0.2.7]|your network",
            "is blacklisted|is listed in a DNSBL|is on our blocklist|is listed at Spamhaus|is blocked by our RBL"
            "|is banned|was found in zen.spamhaus.org|is on a block list"
            "|is a dynamic address|has been blacklisted locally",
        ],
    ),
    (
        "reputation.poor",
        "550",
        [
            "poor|bad|low|weak|insufficient|negative",
            "reputation|sender reputation|sender score",
            "of your host|of 192.0.2.7|of the sending server",
        ],
    ),
    (
        "content.spam",
        "554",
        [
            "message|your mail|this email|the content|this message",
            "looks like spam|was classified as spam|was identified as spam|is considered spam|was rejected as spam"
            "|has been flagged as junk|appears to be unsolicited|scored too high in our spam filter"
            "|was detected as spam"
            "|is unsolicited bulk mail|contains spam|was caught by our content filter|is spam",
        ],
    ),
    (
        "content.virus",
        "554",
        [
            "message|your mail|an attachment|the content|this email",
            "contains a virus|is infected|contains malware|carries a trojan|was rejected by the virus scanner"
            "|has a malicious link|is a phishing attempt|contains a worm|was found infected with W32.Foo",
        ],
    ),
    (
        "content.attachment",
        "552",
        [
            "attachments|executable files|.exe attachments|this file type|ZIP archives|attached executables",
            "are not allowed|is not permitted|are blocked here|is forbidden|are not accepted|are prohibited by policy",
        ],
    ),
    (
        "message.malformed",
        "550",
        [
            "From header|Date header|Message-ID header|the Subject header|MIME structure",
            "is missing|is invalid|is malformed|is duplicated|violates RFC 5322|is not valid|has a syntax error",
        ],
    ),
    (
        "message.too_large",
        "552",
        [
            "message|message size|your mail|this email|the message you sent|mail size",
            "is too large|exceeds the maximum|exceeds the size limit|is larger than the limit of 10 MB|is too big"
            "|exceeds the fixed maximum message size|is over the size limit|exceeds 10485760 bytes",
        ],
    ),
    (
        "access.relay_denied",
        "550",
        [
            "relaying|relay|relay access|mail relaying|third-party relay",
            "denied|is not permitted|not allowed|prohibited|is forbidden|refused|is not allowed from your host"
            "|to this domain is denied",
        ],
    ),
    (
        "access.auth_required",
        "550",
        [
            "SMTP authentication|login|authentication|SMTP AUTH|your authentication",
            "is required|required before sending|failed|is mandatory here|was not successful",
        ],
    ),
    (
        "access.tls_required",
        "550",
        [
            "TLS|STARTTLS|encryption|a TLS connection|an encrypted session",
            "is required|is mandatory|must be used|is needed for this domain|required but not offered"
            "|required by recipient",
        ],
    ),
    (
        "rate.limited",
        "451",
        [
            "too many|excessive|maximum number of|limit exceeded:",
            "connections|messages|emails|mails|concurrent sessions|deliveries",
            "from your IP|from this sender|per hour|in a short time",
        ],
    ),
    (
        "rate.limited",
        "550",
        [
            "hourly|daily|sending|outgoing|message rate",
            "limit|quota",
            "exceeded|reached|has been exceeded|was hit",
        ],
    ),
    (
        "rate.greylisted",
        "451",
        [
            "greylisted|graylisting in action|you have been greylisted|greylisting in effect|temporarily greylisted",
            "|, please try again later|, retry in 5 minutes|: come back in 300 seconds",
        ],
    ),
    (
        "rate.too_many_recipients",
        "452",
        [
            "too many recipients|too many RCPT commands|recipient limit reached|maximum number of recipients exceeded",
            "| in this message| for one message| in one transaction",
        ],
    ),
    (
        "server.error",
        "451",
        [
            "temporary|internal|local|unexpected|system",
            "error|failure|problem",
            "|, try again later| in processing| on our side",
        ],
    ),
    (
        "server.error",
        "452",
        [
            "insufficient|not enough|out of",
            "system storage|system resources|memory|disk space on the server",
            "|, try again later",
        ],
    ),
    (
        "server.loop",
        "554",
        ["mail loop|mail forwarding loop|loop|too many hops|routing loop", " detected|", "|, giving up"],
    ),
    (
        "server.network",
        "451",
        ["connection|SMTP session|network connection", "timed out|lost|was reset by peer|timeout|interrupted"],
    ),
    (
        "protocol.error",
        "503",
        [
            "bad sequence of commands|command out of order|command not recognized|unknown command|bad command syntax",
            "|, sorry",
        ],
    ),
]

MORE_ENGLISH: list[tuple[str, str, list[str]]] = [
    (
        "recipient.unknown",
        "550",
        [
            "sorry,|delivery failed:|5.1.1|message rejected:|the email could not be delivered because",
            "we could not find a mailbox for this recipient|there is no user by that name here"
            "|this address is not one of ours"
            "|nobody by that name works here|that person has no account with us"
            "|the recipient is not in our address book"
            "|the address you wrote to does not exist|our directory has no entry for this recipient"
            "|the username before the @ was not found|this is not a valid mailbox on our system"
            "|I know nobody of that name|the local part does not match any user",
        ],
    ),
    (
        "recipient.disabled",
        "550",
        [
            "sorry,|delivery failed:|5.2.1|message rejected:|rejected because",
            "this employee has left the company|the user no longer works here|this account was closed by its owner"
            "|the mailbox has been inactive for more than 90 days|the account has been suspended for non-payment"
            "|this address is no longer in service|the recipient has moved to another provider"
            "|this mailbox is disabled, not accepting messages|the user has been deactivated by the administrator"
            "|the account is on hold|mailbox was deleted after inactivity",
        ],
    ),
    (
        "recipient.full",
        "452",
        [
            "sorry,|delivery deferred:|4.2.2|message rejected:|temporarily deferred because",
            "the recipient has exceeded their storage allowance|the user is over quota"
            "|there is no space left in the mailbox"
            "|the inbox you are writing to is full|this account has used up its storage"
            "|delivering this would put the user over quota"
            "|the recipient's mailbox cannot hold more mail|mailbox storage is exhausted",
        ],
    ),
    (
        "reputation.domain_listed",
        "554",
        [
            "a URL in this message|a link in your message|a domain in the message body"
            "|a website mentioned in this mail",
            "is blacklisted|is listed in the DBL|is listed in SURBL|is on a URI blocklist|was found on URIBL"
            "|is on our blacklist",
        ],
    ),
    (
        "auth.unauthenticated",
        "550",
        [
            "this message is not authenticated|unauthenticated email is not accepted"
            "|message failed authentication checks"
            "|neither SPF nor DKIM passed|mail must pass SPF or DKIM|message has no SPF or DKIM authentication"
            "|sender is unauthenticated",
            "|, see our sender guidelines|: set up email authentication",
        ],
    ),
    (
        "reputation.poor",
        "421",
        [
            "mail from 192.0.2.7 deferred due to|connection refused because of|temporarily deferred due to"
            "|blocked due to",
            "user complaints|poor reputation|low sender score|excessive complaints|bad sending history"
            "|low IP reputation"
            "|unusual traffic from your IP",
        ],
    ),
    (
        "rate.limited",
        "421",
        [
            "you are sending too fast|please slow down|your host opened too many connections|connection rate exceeded"
            "|you have reached your hourly sending limit|message throughput limit reached"
            "|too many messages in this session"
            "|sending rate exceeds the allowed rate|your account has sent too many messages today|throttled"
            "|maximum messages per connection reached|rate limit for sender exceeded",
            "|, try again later|: retry in 10 minutes",
        ],
    ),
    (
        "server.error",
        "451",
        [
            "our database is down|the mail store is offline|cannot write to the spool|the queue is full"
            "|system under maintenance"
            "|the server is overloaded|lookup service failed temporarily|unable to process the message right now"
            "|unexpected backend failure|the policy server did not answer|content scanner failure"
            "|local configuration error",
            "|, try again later|; we are sorry",
        ],
    ),
    (
        "server.network",
        "450",
        [
            "connection to the next server timed out|could not connect to the destination host"
            "|the remote server did not respond"
            "|no route to host|connection reset by peer|lost connection while sending|delivery time expired"
            "|message expired after 5 days in the queue|the destination server is unreachable|network is unreachable",
            "|, giving up",
        ],
    ),
    (
        "identity.no_rdns",
        "450",
        [
            "sorry,|access denied:|4.7.25|connection refused:",
            "cannot find your reverse hostname|reverse DNS lookup of your address failed|your IP has no hostname"
            "|no PTR record found for 192.0.2.7|your PTR does not match your forward DNS"
            "|set up a PTR record for your server"
            "|we require valid reverse DNS|rDNS of your IP is not set|hostname does not map back to your IP",
        ],
    ),
    (
        "content.attachment",
        "554",
        [
            "sorry,|message rejected:|5.7.0",
            "we do not accept zip files|files of type .exe are blocked|your attachment was rejected by our policy"
            "|password-protected archives are not accepted|this message has a banned attachment type"
            "|the attached file extension is not permitted|Office documents with macros are not allowed",
        ],
    ),
    (
        "access.auth_required",
        "550",
        [
            "you must log in before sending mail|please authenticate first|your username or password is wrong"
            "|authentication credentials invalid|you need to authenticate to use this server|SMTP AUTH needed"
            "|sign in with an app password|this port is for authenticated users only",
            "|, thank you|: see our help pages",
        ],
    ),
    (
        "access.relay_denied",
        "550",
        [
            "we do not relay|this server is not an open relay|that domain is not hosted here"
            "|relaying to remote domains is denied"
            "|I am not a relay for you|we are not responsible for that domain|not a relay host"
            "|you may not use this server to send to other domains",
            "|, sorry|: check your MX record",
        ],
    ),
    (
        "access.tls_required",
        "530",
        [
            "you must use STARTTLS first|we only accept mail over TLS|please enable encryption"
            "|unencrypted connections are refused"
            "|TLS 1.2 or later is required|plaintext sessions are not accepted",
            "|, sorry|: see our policy",
        ],
    ),
]

OTHER_LANGUAGES: list[tuple[str, str, list[str]]] = [
    # German
    (
        "recipient.unknown",
        "550",
        [
            "Empfänger|Benutzer|Postfach|Adresse|Empfängeradresse|Konto",
            "unbekannt|existiert nicht|nicht gefunden|ist hier nicht bekannt|ungültig|wurde nicht gefunden"
            "|ist uns nicht bekannt|gibt es hier nicht",
        ],
    ),
    (
        "recipient.disabled",
        "550",
        [
            "Postfach|Konto|Benutzerkonto|Empfänger",
            "gesperrt|deaktiviert|wurde gelöscht|ist nicht mehr aktiv|stillgelegt|abgeschaltet",
        ],
    ),
    (
        "recipient.full",
        "552",
        [
            "Postfach|Mailbox|Posteingang des Empfängers|Speicherplatz des Empfängers",
            "voll|ist überfüllt|hat sein Limit erreicht|ist erschöpft",
        ],
    ),
    (
        "recipient.domain",
        "550",
        ["Domain|Empfängerdomain|Zieldomain", "existiert nicht|unbekannt|nicht gefunden|hat keinen MX-Eintrag"],
    ),
    ("message.too_large", "552", ["Nachricht|E-Mail|Mail", "zu groß|ist zu groß|überschreitet die maximale Größe"]),
    ("content.spam", "554", ["Nachricht|E-Mail|Mail", "als Spam eingestuft|wurde als Spam erkannt|als Spam abgelehnt"]),
    (
        "access.relay_denied",
        "550",
        ["Relay|Relaying|Weiterleitung", "nicht erlaubt|verweigert|nicht gestattet|abgelehnt"],
    ),
    (
        "access.auth_required",
        "550",
        ["Anmeldung|Authentifizierung|SMTP-Authentifizierung", "erforderlich|fehlgeschlagen|notwendig"],
    ),
    # French
    (
        "recipient.unknown",
        "550",
        [
            "utilisateur|destinataire|adresse|boîte aux lettres|compte|adresse du destinataire",
            "inconnu|inexistant|introuvable|n'existe pas|invalide|non trouvé|inconnue",
        ],
    ),
    (
        "recipient.disabled",
        "550",
        ["compte|boîte|adresse|utilisateur", "désactivé|suspendu|fermé|a été supprimé|bloqué|n'est plus actif"],
    ),
    (
        "recipient.full",
        "552",
        [
            "boîte|boîte aux lettres|boîte du destinataire|messagerie du destinataire",
            "pleine|saturée|est pleine|a dépassé son quota",
        ],
    ),
    (
        "recipient.domain",
        "550",
        ["domaine|nom de domaine|domaine du destinataire", "inconnu|inexistant|introuvable|n'existe pas"],
    ),
    (
        "message.too_large",
        "552",
        ["message|courriel|mail", "trop volumineux|trop gros|dépasse la taille maximale|trop grand"],
    ),
    (
        "content.spam",
        "554",
        ["message|courriel|mail", "considéré comme spam|identifié comme spam|détecté comme indésirable"],
    ),
    ("access.auth_required", "550", ["authentification|identification", "requise|obligatoire|a échoué|nécessaire"]),
    # Spanish
    (
        "recipient.unknown",
        "550",
        [
            "usuario|destinatario|buzón|cuenta|dirección|dirección de correo",
            "desconocido|no existe|no encontrado|inexistente|no válido|inválida|no fue encontrado|desconocida",
        ],
    ),
    (
        "recipient.disabled",
        "550",
        ["cuenta|buzón|usuario", "deshabilitada|suspendida|bloqueado|desactivada|cancelada|inactiva|eliminada"],
    ),
    (
        "recipient.full",
        "552",
        [
            "buzón|casilla|bandeja del destinatario|buzón del usuario",
            "lleno|llena|excede la cuota|ha superado su cuota",
        ],
    ),
    (
        "recipient.domain",
        "550",
        ["dominio|dominio del destinatario|nombre de dominio", "no existe|desconocido|no encontrado|inexistente"],
    ),
    (
        "message.too_large",
        "552",
        ["mensaje|correo", "demasiado grande|excede el tamaño máximo|supera el tamaño permitido"],
    ),
    ("access.auth_required", "550", ["autenticación|identificación", "requerida|necesaria|fallida|obligatoria"]),
    # Italian
    (
        "recipient.unknown",
        "550",
        [
            "utente|destinatario|casella|indirizzo|account|indirizzo email",
            "sconosciuto|inesistente|non trovato|non esiste|non valido|sconosciuta|non è presente",
        ],
    ),
    (
        "recipient.disabled",
        "550",
        ["casella|account|utente", "disabilitata|sospesa|bloccato|chiusa|disattivato|non più attivo|cancellata"],
    ),
    (
        "recipient.full",
        "552",
        ["casella|casella di posta|mailbox del destinatario", "piena|è piena|ha superato la quota|satura"],
    ),
    ("recipient.domain", "550", ["dominio|dominio del destinatario", "inesistente|sconosciuto|non trovato|non esiste"]),
    (
        "message.too_large",
        "552",
        ["messaggio|email", "troppo grande|supera la dimensione massima|eccede la dimensione massima"],
    ),
    # Portuguese
    (
        "recipient.unknown",
        "550",
        [
            "usuário|destinatário|caixa postal|conta|endereço|utilizador",
            "desconhecido|não existe|não encontrado|inexistente|inválido|não foi encontrada|desconhecida",
        ],
    ),
    (
        "recipient.disabled",
        "550",
        ["conta|caixa postal|usuário", "desativada|suspensa|bloqueado|cancelada|encerrada|inativa"],
    ),
    (
        "recipient.full",
        "552",
        ["caixa postal|caixa de correio|caixa de entrada", "cheia|lotada|excedeu a cota|está cheia"],
    ),
    ("message.too_large", "552", ["mensagem|e-mail", "muito grande|excede o tamanho máximo|grande demais"]),
    # Dutch
    (
        "recipient.unknown",
        "550",
        [
            "gebruiker|ontvanger|mailbox|adres|postbus",
            "onbekend|bestaat niet|niet gevonden|ongeldig|is hier niet bekend",
        ],
    ),
    (
        "recipient.disabled",
        "550",
        ["mailbox|account|postbus", "geblokkeerd|uitgeschakeld|gesloten|opgeheven|is niet meer actief|gedeactiveerd"],
    ),
    ("recipient.full", "552", ["mailbox|postbus|mailbox van de ontvanger", "vol|is vol|heeft zijn limiet bereikt"]),
    ("message.too_large", "552", ["bericht|e-mail", "te groot|is te groot|overschrijdt de maximale grootte"]),
    # Polish
    (
        "recipient.unknown",
        "550",
        [
            "użytkownik|odbiorca|skrzynka|adres|adresat|konto",
            "nieznany|nie istnieje|nie znaleziono|nieprawidłowy|nie został znaleziony",
        ],
    ),
    (
        "recipient.disabled",
        "550",
        ["skrzynka|konto|użytkownik", "zablokowana|zawieszone|wyłączone|nieaktywny|usunięte"],
    ),
    (
        "recipient.full",
        "552",
        ["skrzynka|skrzynka odbiorcy|skrzynka pocztowa", "pełna|jest pełna|przepełniona|przekroczyła limit"],
    ),
    ("message.too_large", "552", ["wiadomość|list", "zbyt duża|za duża|przekracza maksymalny rozmiar"]),
    # Russian
    (
        "recipient.unknown",
        "550",
        [
            "пользователь|получатель|почтовый ящик|адрес|аккаунт|адресат",
            "не найден|не существует|неизвестен|не зарегистрирован|недействителен|отсутствует",
        ],
    ),
    (
        "recipient.disabled",
        "550",
        ["ящик|аккаунт|почтовый ящик|пользователь", "заблокирован|отключен|удален|приостановлен|неактивен"],
    ),
    ("recipient.full", "552", ["ящик|почтовый ящик|ящик получателя", "переполнен|полон|превысил квоту|заполнен"]),
    ("message.too_large", "552", ["сообщение|письмо", "слишком большое|превышает максимальный размер|слишком велико"]),
]


def cells(code: str, columns: list[str]) -> Iterator[str]:
    for words in product(*(column.split("|") for column in columns)):
        yield f"{code} {' '.join(' '.join(words).replace(' ,', ',').replace(' :', ':').split())}"


def misread(category: str, code: str, columns: list[str]) -> list[tuple[str, str, str]]:
    answers = [(text, CLASSIFIER.match(Reply.of(text), verb_known=False)) for text in cells(code, columns)]
    return [(text, answer.category, answer.rule) for text, answer in answers if answer.category != category]


@pytest.mark.parametrize(("category", "code", "columns"), [*ENGLISH, *MORE_ENGLISH])
def test_each_cell_is_read_to_its_cause(category: str, code: str, columns: list[str]) -> None:
    assert misread(category, code, columns) == []


@pytest.mark.parametrize(("category", "code", "columns"), OTHER_LANGUAGES)
def test_other_languages_are_read_too(category: str, code: str, columns: list[str]) -> None:
    assert misread(category, code, columns) == []
