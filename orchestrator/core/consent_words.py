"""What people say to agree and to refuse, per language, as phrases of a call's answer to a read-back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Sense(Enum):
    YES = "yes"
    WEAK = "weak"
    """May be agreement, or only "I have heard you"."""
    AFTER_YES = "after_yes"
    """Agreement only behind a yes: "yes, I do"."""
    POLITE = "polite"
    NO = "no"
    CHANGE = "change"
    """Something else is wanted, whatever else is said."""
    CORRECTION = "correction"
    """Something else is wanted if anything follows."""
    DOUBT = "doubt"
    QUESTION = "question"
    JOINT = "joint"
    """Something else is wanted if anything follows, such as an "and"."""
    ECHO = "echo"
    """What was asked, repeated."""
    NEUTRAL = "neutral"
    """Says nothing of its own in a refusal: "I don't want that"."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Phrases by what they mean; all in small letters, without accents and apostrophes."""

    phrases: dict[tuple[str, ...], Sense] = field(default_factory=dict)
    longest: int = 1


def _vocabulary(**senses: str) -> Vocabulary:
    phrases: dict[tuple[str, ...], Sense] = {}
    for name, text in senses.items():
        for phrase in text.split(","):
            phrases.setdefault(tuple(phrase.split()), Sense[name.upper()])
    return Vocabulary(phrases, max(map(len, phrases)))


_ENGLISH = _vocabulary(
    yes=(
        "yes,yeah,yep,yup,yea,yess,sure,sure thing,certainly,absolutely,definitely,exactly,"
        "correct,confirmed,affirmative,indeed,of course,go ahead,please go ahead,you can go ahead,"
        "go for it,go on and do it,do it,do that,please do,please do it,please do that,lets do it,"
        "lets do that,thats right,that is right,thats correct,that is correct,its correct,"
        "it is correct,all correct,i confirm,i confirm that,i agree,i do agree,i approve,"
        "please proceed,proceed,for sure,thats the one,that is the one,sounds right,yes indeed"
    ),
    weak=(
        "okay,ok,k,alright,all right,fine,thats fine,that is fine,its fine,good,thats good,"
        "that is good,great,thats great,cool,nice,perfect,thats perfect,right,sounds good,"
        "that works,works for me,uh huh,mm hm,mhm,mm,mmhmm,hm,hmm,yay,got it,i see,excellent,"
        "lovely,wonderful,fair enough"
    ),
    after_yes=(
        "i want to,i do want to,id like to,i would like to,i do,it is,i am,i would,i will,"
        "you can,you may,we can,thats it,that is it,i want that,i do want that,i want you to,"
        "i want you to do that,i want you to do it,id like that,i would like that,id like you to,"
        "that would be great,that would be good,that would be nice,that would be lovely,"
        "that would be perfect,that would be fine,that is what i want,thats what i want,"
        "thats what i said,please,i am sure,im sure,im happy with that,everything is correct,"
        "everythings correct,thats all correct,that is all correct,very much so"
    ),
    polite=(
        "thank you,thanks,thanks a lot,thank you very much,thank you so much,many thanks,cheers,"
        "um,uh,er,erm,ah,oh,well,please,sir,maam,madam,bye,goodbye,then,now,right now,"
        "and thank you,and thanks"
    ),
    no=(
        "please do not,please dont,hold,hold please,one moment,one second,one minute,one sec,"
        "a moment,a second,just a moment,just a second,just a minute,a minute,no,nope,nah,nay,"
        "no way,no thanks,no thank you,not,dont,do not,never,never mind,nevermind,stop,stop it,"
        "stop that,wait,hold on,hang on,hold off,leave it,leave it alone,leave,keep it,keep,"
        "forget it,forget that,forget about it,not yet,not now,cancel that,cancel it,cancel this,"
        "abort,undo,negative,neither,nor,without,none,nothing,cannot,cant,wont,wouldnt,"
        "shouldnt,isnt,arent,wasnt,didnt,doesnt,couldnt,i dont think so,i dont want that,"
        "i dont want to,i changed my mind,ive changed my mind,i have changed my mind,rather not,"
        "id rather not,i would rather not,of course not,certainly not,absolutely not,definitely not,"
        "not correct,not right,not really,why dont,wrong,thats wrong,that is wrong,incorrect,"
        "false,refuse,i refuse,decline"
    ),
    change=(
        "please correct,correct the,correct that,correct this,correct it,correct my,but,also,and also,instead,"
        "change,change it,change that,change it to,make it,make that,make,except,only,unless,"
        "the other one,the other,other one,another,another one,different,differently,i meant,"
        "it should be,should be,as well,too,plus,before that,first,later,until,after,both,"
        "as long as,provided,however,though,although"
    ),
    joint=("and,or,if"),
    correction=("actually,i mean,rather,sorry,on second thought,correction,scratch that"),
    doubt=(
        "hello,hi,hey,whatever,if you like,if you want,as you wish,yeah right,yes right,"
        "dont mind,i dont mind,i dont care,maybe,perhaps,probably,possibly,i think,i think so,"
        "i guess,i guess so,guess,i suppose,suppose,i believe so,i hope so,not sure,im not sure,"
        "i am not sure,unsure,kind of,sort of,more or less,i dont know,dont know,i do not know,"
        "dunno,no idea,let me think,let me see,let me check,i need to think,depends,it depends,"
        "pardon,excuse me,say again,say that again,repeat,repeat that,again,come again,"
        "didnt catch,didnt hear,cant hear,didnt understand,dont understand,do not understand,huh,"
        "eh,i said,he said,she said,they said,said,hopefully,almost,no problem,no worries,"
        "no doubt,might,could be,should i"
    ),
    question=(
        "what,why,how,when,where,who,which,whats,hows,whos,wheres,can you,could you,"
        "would you,will you,do you,did you,are you,is it,is that,is this,was it,does it,"
        "does that,can i,could i,should i,may i,am i,have you,do i,what if,will it,will that,"
        "would that,would it"
    ),
    neutral=(
        "just,very,much,i,you,it,that,this,the,a,an,my,me,to,want,wanted,do,did,please,"
        "anymore,any more,at all,really,so,for,of,in,on,would,like,will,need,am,is,be,"
        "was,with,im,thats,its,ill,id,go,ahead,one,right,correct,have,any"
    ),
)
_GERMAN = _vocabulary(
    yes=(
        "ja,jawohl,jo,jep,jup,genau,richtig,korrekt,stimmt,das stimmt,das ist richtig,"
        "das ist korrekt,ist richtig,einverstanden,naturlich,selbstverstandlich,auf jeden fall,"
        "machen sie das,machen sie es,mach das,mach es,tun sie das,ich bestatige,bestatigt,"
        "ganz genau,das passt"
    ),
    weak=(
        "okay,ok,gut,in ordnung,alles klar,passt,schon,na gut,hm,hmm,mhm,aha,klar,doch,"
        "gerne,bitte,meinetwegen,von mir aus"
    ),
    after_yes=(
        "bitte,gerne,klar,das mochte ich,mochte ich,bitte machen sie das,das ist es,so ist es,"
        "passt,gut,in ordnung"
    ),
    polite=("danke,danke schon,dankeschon,vielen dank,ah,ahm,oh,also,bitte schon,tschuss"),
    no=(
        "nein,ne,nee,stimmt nicht,das stimmt nicht,nicht richtig,nicht,kein,keine,keinen,nie,"
        "niemals,stopp,stop,halt,warte,warten sie,moment,lassen sie,lass,lass es,lieber nicht,"
        "noch nicht,auf keinen fall,falsch,das ist falsch,ohne,abbrechen,vergessen sie,behalten,"
        "weder"
    ),
    change=(
        "aber,sondern,stattdessen,auch,noch,anders,andere,anderen,anderer,andern,falls,ausser,"
        "nur,erst,spater,vorher,beide,mach,machen sie"
    ),
    joint=("und,oder,wenn"),
    correction=("eigentlich,ich meine,ich meinte,entschuldigung,vielmehr,lieber"),
    doubt=(
        "na ja,naja,hallo,vielleicht,glaube,ich glaube,ich denke,wahrscheinlich,keine ahnung,"
        "weiss nicht,ich weiss nicht,nicht sicher,wie bitte,ich habe nicht verstanden,"
        "nicht verstanden,gesagt"
    ),
    question=("was,wie,warum,wann,wo,wer,welche,welcher,konnen sie,ist das,kann ich,haben sie"),
    neutral=("ich,das,es,die,der,den,mochte,will,mehr,bitte,tun,machen,so,mir,mein,meine,sie,doch"),
)
_SPANISH = _vocabulary(
    yes=(
        "si,claro,claro que si,correcto,exacto,exactamente,asi es,eso es,de acuerdo,adelante,"
        "por supuesto,desde luego,confirmo,hagalo,hazlo,es correcto,esta correcto,"
        "perfectamente correcto"
    ),
    weak=("vale,bueno,bien,esta bien,ok,okay,perfecto,aja,mm,hm,muy bien,listo"),
    after_yes=("por favor,lo es,lo quiero,eso quiero,es eso,esta bien,perfecto,vale,muy bien"),
    polite=("gracias,muchas gracias,eh,em,ah,oh,pues,senor,senora,adios"),
    no=(
        "claro que no,por supuesto que no,no,nunca,tampoco,ni,para,pare,espere,espera,alto,"
        "dejelo,dejalo,olvidelo,olvidalo,sin,nada,todavia no,mal,incorrecto,jamas,ningun,"
        "ninguna"
    ),
    change=(
        "pero,tambien,sino,cambie,cambia,cambiar,otro,otra,en vez,en lugar,ademas,solo,"
        "excepto,salvo,despues,primero,antes,mejor"
    ),
    joint=("y,o"),
    correction=("en realidad,digo,perdon,quiero decir,quise decir"),
    doubt=(
        "quizas,quiza,tal vez,creo,creo que si,supongo,no se,no estoy seguro,no estoy segura,"
        "no entiendo,no le oi,dijo,dije"
    ),
    question=("que,como,cuando,donde,quien,cual,por que,puede,puedo,cuanto"),
    neutral=("lo,la,el,los,las,quiero,eso,esto,es,haga,hacer,mi,por favor,me,yo"),
)
_FRENCH = _vocabulary(
    yes=(
        "mais oui,mais bien sur,oui,ouais,exact,exactement,correct,tout a fait,absolument,"
        "bien sur,cest ca,cest bien ca,cest exact,cest correct,cest juste,allez y,vas y,"
        "je confirme,confirme,certainement,daccord allez y"
    ),
    weak=("allez,daccord,ok,okay,bien,bon,tres bien,parfait,ca marche,ca va,mm,hm,cest bon,entendu"),
    after_yes=("sil vous plait,sil te plait,je veux bien,cest cela,daccord,parfait,tres bien,cest bon"),
    polite=("merci,merci beaucoup,euh,ah,oh,eh,alors,madame,monsieur,au revoir"),
    no=(
        "non,pas ca,pas correct,pas exact,pas,ne,jamais,stop,arretez,arrete,attendez,attends,"
        "laissez,laisse,rien,sans,aucun,aucune,faux,cest faux,pas encore,ni,annulez ca,"
        "oubliez,surtout pas,n"
    ),
    change=(
        "mais,aussi,plutot,autre,lautre,changez,change,au lieu,sauf,seulement,apres,dabord,avant,en fait"
    ),
    joint=("et,ou,si"),
    correction=("enfin,je veux dire,je voulais dire,pardon,desole"),
    doubt=(
        "peut etre,je crois,je pense,je ne sais pas,pas sur,pas sure,je nai pas compris,"
        "probablement,jai dit,dit"
    ),
    question=("quoi,comment,pourquoi,quand,ou est,qui,quel,quelle,est ce que,pouvez vous,quest ce,combien"),
    neutral=("je,ce,nest,il,y,le,la,les,ca,cela,veux,du,tout,plus,de,cest,faire,faites,moi,mon,ma,merci"),
)
VOCABULARIES = {"en": _ENGLISH, "de": _GERMAN, "es": _SPANISH, "fr": _FRENCH}

EXACT = {
    "it": ("si,certo,esatto", "no"), "pt": ("sim,certo,exato", "nao"), "nl": ("ja,klopt", "nee"),
    "sv": ("ja", "nej"), "da": ("ja", "nej"), "nb": ("ja", "nei"), "no": ("ja", "nei"), "fi": ("kylla", "ei"),
    "pl": ("tak", "nie"), "cs": ("ano", "ne"), "ru": ("да", "нет"), "uk": ("так", "ні"),
    "tr": ("evet", "hay\N{LATIN SMALL LETTER DOTLESS I}r"), "ar": ("نعم", "لا"), "ko": ("네,예", "아니요,아니오"),
    "hi": ("हाँ,हां,जी हाँ,जी हां", "नहीं,जी नहीं"), "ja": ("はい", "いいえ"), "zh": ("是,是的,对,对的", "不,不是,不对"),
}  # fmt: skip
"""Languages of which only these utterances are known: those that agree and those that refuse."""
