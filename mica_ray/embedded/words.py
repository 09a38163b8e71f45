"""Word lists for the slots of scenarios (embedded/retellings.py) and replies."""

from __future__ import annotations

NOUNS = (
    "exam thesis job boss team project deadline shift interview contract office salary promotion manager "
    "colleague meeting report review sister brother mother father son daughter family wedding divorce partner "
    "marriage breakup letter house flat rent loan money city friend party birthday holiday neighbour dog cat "
    "garden diagnosis surgery illness pain sleep weight doctor hospital treatment knee heart test course "
    "class lecture grade teacher professor school essay language degree scholarship lab presentation choir "
    "club game band violin piano car accident argument silence secret promise message visit funeral memory "
    "anniversary dinner kitchen baby child retirement business shop restaurant farm order account phone "
    "laptop ticket delivery invoice refund parcel booking password equation fraction chapter homework proof "
    "novel paragraph verb graph experiment code program poem chess guitar painting race training coach voice "
    "mirror skin tooth allergy fever injury scan move train street church village reunion photo diary ring "
    "apology app bed boyfriend girlfriend break care chat choice cradle crush customer date dentist desk "
    "distance door draft evening fair fee friendship gain gap group headache hearing home joke loss lunch "
    "major night note panic paper pay place raise resignation room safety science search season stick "
    "suitcase therapy trip wine work weekend cousin aunt uncle grandmother stepson husband wife morning "
    "summer winter garage bus tent camera music song dance theatre film book library page picture story word "
    "question answer plan list task budget tax bill bank lawyer court judge police army uniform border visa "
    "passport flight airport hotel beach lake river forest mountain bridge tower roof window wall floor "
    "stairs bathroom mess noise smell coffee bread meal diet gym swimming running football match goal medal "
    "prize award contest vote speech debate news website video email call signal battery screen repair tool "
    "engine wheel bike helmet road map crowd line queue seat table chair lamp clock watch coat shoe dress "
    "shirt glove bag box key lock gate fence tree flower plant bird horse field harvest storm rain snow letters jokes "
    "messages gaps photos visits friends papers shifts fees nights rooms calls dreams plans"
).split()
"""Includes the words of our own scenarios: a policy can name only what is in its vocabulary."""
QUALITIES = (
    "old new first last big small long late broken open empty night summer weekly second final red quiet "
    "local early wrong missing shared daily former winter double yearly front angry bad best blood cancelled "
    "chronic constant crowded dating divided driving evening free jealous lost low missed online safety short "
    "silent single sleepless sudden unpaid walking loud dark cold hot heavy light strange young poor rich "
    "tall narrow public private foreign official sick tired closed hidden real false blue green white black "
    "grey"
).split()
PEOPLE = (
    "sister brother mother father friend son daughter boss neighbour partner wife husband teacher cousin aunt uncle"
    " grandmother stepson boyfriend girlfriend"
).split()

FEELINGS = (
    "sad",
    "tired",
    "afraid",
    "angry",
    "lonely",
    "ashamed",
    "worn out",
    "hurt",
    "nervous",
    "lost",
    "upset",
    "worried",
)

WEIGHTS = (
    "heavy",
    "painful",
    "exhausting",
    "hard",
    "lonely",
    "frightening",
    "overwhelming",
    "draining",
    "unfair",
    "tiring",
)
