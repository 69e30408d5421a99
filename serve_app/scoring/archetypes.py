"""Kinds of tasks for language models, each with a few prompts that ask for it.

A route's description names topics, but users write requests. A route that is about one of these
kinds inherits its prompts, and is then also compared with requests. They were written for this
purpose, from the taxonomy alone and not from any test set.
"""

from typing import Final, NamedTuple


class Archetype(NamedTuple):
    """A kind of task."""

    name: str
    description: str
    prompts: tuple[str, ...]


ARCHETYPES: Final = (
    Archetype(
        "code generation",
        "writing new code: functions, scripts, classes, queries, web pages and tests from a description",
        (
            "write a python function that merges two sorted lists",
            "implement a REST endpoint in Go that uploads a file to S3",
            "create a React component with a search box and paginated results",
            "give me a SQL query that returns the top five customers by revenue per month",
            "generate unit tests for this class using pytest",
            "I need a bash script which renames all jpg files by date",
            "build a simple todo app in html, css and javascript",
        ),
    ),
    Archetype(
        "code understanding",
        "explaining, reviewing and debugging existing code: what it does, why it fails, how to improve it",
        (
            "explain what this function does line by line",
            "why do I get a NullPointerException in this method?",
            "review my pull request and point out bugs",
            "refactor this loop to make it faster and easier to read",
            "what does the following regular expression match?",
            "my program crashes with index out of range, here is the traceback",
            "what is the time complexity of this algorithm?",
        ),
    ),
    Archetype(
        "mathematics",
        "calculation, algebra, calculus, geometry, probability and proofs",
        (
            "solve 3x^2 - 5x + 2 = 0",
            "what is the integral of x times e to the x",
            "a bag holds four red and six blue balls; what is the probability of drawing two red ones",
            "prove that the square root of two is irrational",
            "how much is 17 percent of 2300",
            "find the area of a triangle with sides 5, 7 and 8",
            "a train leaves at 3 pm at 60 miles per hour; when does the second train catch it?",
        ),
    ),
    Archetype(
        "logical reasoning",
        "puzzles, deduction, step by step reasoning, weighing evidence and arguments",
        (
            "three friends each own a different pet; use the clues to find who owns the cat",
            "if all bloops are razzies and all razzies are lazzies, are all bloops lazzies?",
            "one of the guards always lies, which door should I take",
            "think step by step: who finished the race before Anna?",
            "is this argument valid, and which assumption does it rest on?",
            "what comes next in the sequence: 2, 6, 12, 20",
            "schedule five meetings in two rooms so that nobody is double booked",
        ),
    ),
    Archetype(
        "creative writing",
        "stories, poems, songs, scripts, slogans and other imaginative text",
        (
            "write a short story about a lighthouse keeper who finds a door in the sea",
            "compose a haiku about autumn rain",
            "give me lyrics for a country song about a lost dog",
            "come up with a catchy tagline for a bakery",
            "write the opening scene of a detective novel",
            "a limerick about monday mornings please",
            "invent a fairy tale in which the dragon is afraid of fire",
        ),
    ),
    Archetype(
        "writing and editing",
        "drafting and polishing e-mails, letters, essays, posts and reports; grammar and tone",
        (
            "draft a polite e-mail asking my landlord to fix the heating",
            "make this paragraph more formal and concise",
            "correct the grammar and spelling of the following text",
            "write a cover letter for a marketing position",
            "rewrite this post so that it sounds friendlier",
            "write an essay on the advantages of public transport",
            "write a product description for wireless headphones",
        ),
    ),
    Archetype(
        "role play",
        "acting as a character or persona and staying in it",
        (
            "pretend you are a pirate captain and answer my questions",
            "act as a job interviewer for a software company and interview me",
            "you are Sherlock Holmes; what do you make of this stranger?",
            "let's play a fantasy game, you are the game master",
            "imagine you are a medieval king and describe your day",
            "I want you to act as a travel guide",
        ),
    ),
    Archetype(
        "information extraction",
        "finding and pulling names, dates, amounts, fields and facts out of a given text into a list, table or JSON",
        (
            "extract all person names and dates from this article as JSON",
            "list the e-mail addresses that appear in the text below",
            "from the invoice, give me the total, the due date and the vendor",
            "turn these notes into a table with the columns task, owner and deadline",
            "which companies are mentioned in the following paragraph?",
            "read the review and fill in product, rating and complaint",
            "based on the passage, answer: when was the bridge opened?",
        ),
    ),
    Archetype(
        "classification",
        "labelling texts by sentiment, topic, intent or category",
        (
            "is the sentiment of this review positive or negative?",
            "classify the ticket as bug, feature request or question",
            "assign each headline to one of these topics",
            "label the following messages as spam or not spam",
            "rate how urgent each e-mail is from 1 to 5",
        ),
    ),
    Archetype(
        "summarization",
        "making a long text short: key points, abstracts, minutes, tl;dr",
        (
            "summarize the following article in three sentences",
            "tl;dr of this thread please",
            "what are the key points of this meeting transcript?",
            "give me a one paragraph abstract of the report below",
            "condense these notes into bullet points",
            "shorten this text to 50 words and keep the main message",
        ),
    ),
    Archetype(
        "translation",
        "putting a text from one language into another",
        (
            "translate this sentence into French",
            "how do you say good night in Japanese?",
            "what does 'te echo de menos' mean in English?",
            "please translate the following e-mail from German to English",
            "convert this paragraph to Brazilian Portuguese",
            "ins Deutsche übersetzen: where is the train station?",
        ),
    ),
    Archetype(
        "science",
        "physics, chemistry, biology, astronomy, earth science and how nature works",
        (
            "why is the sky blue?",
            "explain how vaccines train the immune system",
            "what happens to an atom when it absorbs a photon?",
            "how does photosynthesis turn light into sugar",
            "what is the difference between a virus and a bacterium",
            "describe how black holes form",
            "why does ice float on water?",
        ),
    ),
    Archetype(
        "engineering and technology",
        "how machines, computers, networks and devices work and are set up",
        (
            "how does a diesel engine differ from a petrol engine",
            "explain the difference between tcp and udp",
            "which graphics card should I buy for machine learning?",
            "how do I set up a home network with two routers",
            "design a load balancer for a web service",
        ),
    ),
    Archetype(
        "humanities",
        "history, philosophy, literature, politics, law, religion and the arts",
        (
            "what were the causes of the first world war?",
            "compare the ethics of Kant and Mill",
            "who painted the Night Watch and why is it famous",
            "discuss the theme of guilt in Macbeth",
            "how does a bill become law?",
            "explain the origins of Buddhism",
        ),
    ),
    Archetype(
        "business and finance",
        "economics, markets, accounting, investing, strategy and marketing",
        (
            "how does inflation affect interest rates",
            "write a marketing plan for a new coffee shop",
            "what is the difference between stocks and bonds?",
            "explain a balance sheet to a beginner",
            "give me a swot analysis of an online bookstore",
        ),
    ),
    Archetype(
        "health and medicine",
        "symptoms, illnesses, treatments, nutrition and fitness",
        (
            "what are the symptoms of iron deficiency?",
            "how long does a sprained ankle take to heal",
            "is it safe to take ibuprofen with antibiotics?",
            "make a workout plan for a beginner",
            "which foods are rich in protein",
        ),
    ),
    Archetype(
        "chit-chat",
        "greetings, thanks, small talk, jokes, feelings, opinions and personal advice",
        (
            "hi, how are you today?",
            "thanks, that was really helpful",
            "tell me a joke",
            "I feel a bit lonely this evening",
            "what's your favourite movie?",
            "how do I tell my friend that I can't come to her wedding?",
            "good morning!",
        ),
    ),
)
"""The archetype bank, embedded once when an engine starts."""
