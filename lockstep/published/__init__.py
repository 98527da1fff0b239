"""The published plan: a compiled plan as a folder of documents in a bucket of each cloud (docs/adr/0066).

    plans/<digest>/index.json                     every credential, as far as what looks at all of them needs it
    plans/<digest>/credentials/<run key>.json     the compiled plan with one credential
    plans/<digest>/shards/<shard>.json            whose rotations a rule starts; ids only, for the Distributed Map

A function reads the document of its own credential, once in the life of its process. The digest is the root of a hash
tree over all documents (`merkle`), and the deployment writes it into the function's environment. So a function that
reads one document knows that it is the one that was deployed, whoever else may write to the bucket. A folder never
changes: another plan has another digest, and a roll-back finds the documents of its own.

What reads needs to get objects below `plans/`, and to list them: without the second both clouds answer that a document
is denied where it is missing. What publishes also creates objects there. Nothing overwrites or deletes any.
"""
