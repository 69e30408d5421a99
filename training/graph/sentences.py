"""Made-up sentences with which calibrate.py measures outlier channels and ranges."""

SENTENCES = """How do I reset my password?
I want to book a flight from Paris to Oslo next Tuesday morning.
refactor this function so that it returns a list instead of a generator
What is the capital of Australia?
Weather and climate: questions about rain, wind and temperature.
My card was charged twice for the same purchase, please refund one of them.
Translate "good evening" into Japanese.
def add(a, b): return a + b  # why does this fail with strings?
Turn off the lights in the kitchen.
play some jazz
hello
Thanks, that is all for today!
Explain the theory of relativity to a ten year old child in three short paragraphs.
SELECT name, count(*) FROM orders GROUP BY name HAVING count(*) > 10;
Bonjour, je voudrais savoir si le magasin est ouvert le dimanche.
Wie viel kostet eine Fahrkarte nach Berlin?
Can you summarise the attached contract and list every obligation of the tenant?
12 + 7 * (3 - 1) = ?
banking transfer
Order a large pizza with mushrooms, olives and extra cheese, to be delivered at seven.
The patient is a 54 year old woman with chest pain and shortness of breath since yesterday.
TypeError: cannot read properties of undefined (reading 'map')
Set an alarm for 6:45 am and remind me to call the dentist.
write a poem about the sea in autumn
Where is my parcel? The tracking number is AB123456789.
legal advice: contracts, liability, intellectual property
I think the recommendation of the committee was unfair, and I would like to appeal.
Convert 5 miles into kilometres.
Kubernetes pod keeps restarting with CrashLoopBackOff after the last deployment.
Who won the match last night?
Help me plan a three day trip to Rome with two small children and little money.
the quick brown fox jumps over the lazy dog
What's the exchange rate between the euro and the dollar right now?
Cancel my subscription, I do not use it any more.
{"name": "test", "value": [1, 2, 3], "ok": true}
Summarize: In the year 1850 the town had about four hundred inhabitants, most of whom worked in the mill by the river; by 1900 the railway had come, the mill had closed, and the population had grown to six thousand.
travel
General conversation, small talk and jokes
Prove that the square root of two is irrational.
Find me a vegan restaurant near the station that is open late.
how many calories are in a banana
Docker build fails: no space left on device
Write a cover letter for a junior data analyst position at a hospital.
Is it going to rain this weekend in Edinburgh?
you are stupid and this does not work
Please increase the limit of my credit card to 5000 dollars.
https://example.com/index.html?page=2&sort=asc
Creative writing: stories, poems, dialogue and song lyrics.""".splitlines()
