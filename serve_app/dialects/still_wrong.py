"""Recognizes users who say that an answer is still wrong, in several languages.

A sentence counts only as a whole, so that a text about something that still does not work, or
one that is to be translated, is not taken for a complaint.
"""

import re
from typing import Final

_LOOK: Final = 500
"""How many characters of a message are read: a log may follow the complaint."""
_BETWEEN: Final = re.compile(r"[.!?;:,\n…。！？；：，、]+|\s[-–—]+\s")  # noqa: RUF001 - full-width signs
_SPACE: Final = re.compile(r"\s+")
_QUOTES: Final = str.maketrans({"’": "'", "`": "", '"': "", "“": "", "”": "", "*": ""})  # noqa: RUF001

_ENGLISH: Final = (
    r"(?:(?:no|nope|hm+|sorry|ok|okay|well|but|and|so|unfortunately|now|why(?: is| are)?)\s)*"
    r"(?:(?:it|this|that|they|these|those|i|i'm|we|we're|the \w+(?: \w+)?|your \w+|my \w+)"
    r"(?:'s| is| are| am)?\s)?(?:is |are )?"
    r"(?:still (?:wrong|broken|fail(?:s|ing)?|crash(?:es|ing)?|the same(?: \w+)?"
    r"|not (?:working|right|correct|fixed|ok|okay|good|it|what i (?:want|wanted|meant|asked for))"
    r"|(?:does ?n[o']?t|do ?n[o']?t|is ?n[o']?t|are ?n[o']?t|wo ?n[o']?t|can ?n?[o']?t) "
    r"(?:work|working|build|compile|run|pass|start|right|correct|fixed)"
    r"|(?:get|getting|see|seeing|have|having|throws?|shows?|gives?(?: me)?) "
    r"(?:the |an? )?(?:same )?(?:errors?|problem|issue|exception|bug))"
    r"|did ?n[o']?t (?:help|work|fix (?:it|that|anything)|solve (?:it|that)|change anything)"
    r"|(?:wrong|broken|failing|fails) again"
    r"|(?:the )?same (?:error|problem|issue|bug|exception)"
    r"|not fixed)"
    r"(?: (?:for me|here|at all|either|now|again|though|please|as before|yet|unfortunately))*"
)
_GERMAN: Final = (
    r"(?:(?:nein|nee|hm+|leider|aber|und|sorry)\s)*"
    r"(?:(?:es|das|dies|(?:der|die|das|dein|deine) \w+)\s)?"
    r"(?:(?:(?:ist|sind|geht|gehen|funktioniert|klappt|läuft|laufen|stimmt|passt|hilft|kompiliert) )?"
    r"(?:leider )?(?:immer noch|noch immer|weiterhin|nach wie vor) "
    r"(?:nicht(?: (?:richtig|korrekt|behoben|gelöst|gut|fertig|das was ich will))?|falsch|kaputt|fehlerhaft"
    r"|(?:de[rn] ?(?:selben?|gleichen?)|ein(?:en)?) ?fehler|die ?(?:selbe|gleiche) fehlermeldung)"
    r"|hat (?:leider )?nicht (?:geholfen|funktioniert|geklappt)"
    r"|(?:wieder )?de[rn] ?(?:selben?|gleichen?) fehler)"
    r"(?: (?:bei mir|hier|mehr|wie vorher|wie zuvor|wieder|leider))*"
)
_FRENCH: Final = (
    r"(?:(?:non|mais|et|désolée?|malheureusement)\s)*"
    r"(?:(?:ça|cela|ce|il|elle|les? \w+|la \w+)\s|c'est )?(?:ne |n')?"
    r"(?:(?:marche|fonctionne|passe|compile|va|est) )?"
    r"(?:(?:toujours|encore) (?:pas(?: (?:bon|correct|corrigé|ça|juste))?|faux|cassé|incorrect|en erreur"
    r"|la même erreur|le même problème)|(?:la )?même erreur)(?: (?:chez moi|ici|qu'avant))?"
)
_SPANISH: Final = (
    r"(?:(?:no|pero|y|lo siento)\s)*(?:(?:eso|esto|el \w+|la \w+)\s)?"
    r"(?:siguen? (?:sin (?:funcionar|pasar|compilar)|fallando|mal|rot[oa]|igual"
    r"|(?:dando|saliendo) (?:el mismo |un )?error)"
    r"|(?:todavía|aún) (?:no (?:funciona|va|pasa|compila|está bien|está arreglado)|está mal|falla|da error)"
    r"|(?:es )?el mismo error)(?: (?:para mí|aquí|otra vez|que antes))?"
)
_ITALIAN: Final = (
    r"(?:(?:no|ma|e|purtroppo)\s)*(?:(?:questo|il \w+|la \w+)\s)?"
    r"(?:(?:è )?ancora (?:sbagliat[oa]|rott[oa]|errat[oa]|lo stesso errore)"
    r"|(?:ancora non (?:funziona|va|passa|compila)|non (?:funziona|va|passa|compila) ancora)"
    r"|continua a (?:non funzionare|fallire|dare errore)|(?:lo )?stesso errore(?: di prima)?)"
)
_PORTUGUESE: Final = (
    r"(?:(?:não|mas|e|infelizmente)\s)*(?:(?:isso|isto|o \w+|a \w+)\s)?"
    r"(?:ainda (?:não (?:funciona|está funcionando|passa|compila|está certo)|está (?:errado|quebrado)|dá erro)"
    r"|continua (?:errado|quebrado|falhando|dando (?:o mesmo )?erro|não funcionando|sem funcionar)"
    r"|o mesmo erro)(?: (?:aqui|de novo|de antes))?"
)
_DUTCH: Final = (
    r"(?:(?:nee|maar|en|helaas)\s)*(?:(?:het|dit|dat|de \w+)\s)?(?:(?:is|werkt|klopt|doet het) )?"
    r"nog (?:steeds|altijd) (?:niet(?: (?:goed|juist|opgelost))?|fout|kapot|dezelfde fout)"
)
_POLISH: Final = (
    r"(?:(?:nie|ale|i|niestety)\s)*(?:to )?(?:nadal|dalej|wciąż) (?:nie (?:działa|przechodzi|kompiluje się)"
    r"|(?:jest )?(?:źle|zepsute)|ten sam błąd)"
)
_RUSSIAN: Final = (
    r"(?:(?:нет|но|и|увы|это|оно)\s)*(?:вс[её] (?:ещ[её]|равно)|по-прежнему|опять|снова) "
    r"(?:не (?:работает|проходит|компилируется|то|так|исправлено)|неправильно|неверно|падает|ошибка|та же ошибка)"
)
_CHINESE: Final = (
    r"(?:但是?|可是|这个?|它|代码|测试|结果|好像)?(?:还是|仍然|依然|依旧|仍)"
    r"(?:不行|不对|不能用|不工作|没用|没有?修好|没有?解决|报错|有?错误?|有问题|错的?|失败|一样|同样的错误)(?:了|的|啊|呀|呢)?"
)
_JAPANESE: Final = (
    r"(?:でも|これは?|それは?)?(?:まだ|やはり|やっぱり|依然として)"
    r"(?:動(?:きません|かない|作しません)|直って(?:い)?(?:ません|ない)|間違って(?:い)?(?:ます|る)"
    r"|エラーが(?:出ます|出る|出ています|出ている)|(?:ダメ|だめ)(?:です)?|失敗(?:します|する)|同じエラーです?)(?:ね|よ)?"
)
_KOREAN: Final = (
    r"(?:하지만 |근데 )?(?:아직도?|여전히) ?(?:안 ?(?:돼요?|됩니다|되네요)|작동하지 않(?:아요|습니다)|틀렸(?:어요|습니다)"
    r"|(?:에러|오류)가 (?:나요|납니다|나네요)|같은 (?:에러|오류)(?:예요|입니다|가 나요)?)"
)
_COMPLAINTS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        _ENGLISH,
        _GERMAN,
        _FRENCH,
        _SPANISH,
        _ITALIAN,
        _PORTUGUESE,
        _DUTCH,
        _POLISH,
        _RUSSIAN,
        _CHINESE,
        _JAPANESE,
        _KOREAN,
    )
)


def says_still_wrong(text: str) -> bool:
    """True if a sentence at the beginning of the text is such a complaint, and nothing else."""
    head = text[:_LOOK].casefold().translate(_QUOTES)
    sentences = (_SPACE.sub(" ", sentence).strip(" -–—()") for sentence in _BETWEEN.split(head))  # noqa: RUF001
    return any(pattern.fullmatch(s) for s in sentences if s for pattern in _COMPLAINTS)
