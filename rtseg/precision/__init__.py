"""What float16 and int8 cost a bundle: ranges of what its products read, and answers beside float32's.

judge     Whether a bundle may be stepped in float16 or int8
measured  How far one engine's answers to a split stand from another's
page      The report on a bundle's precisions, as `precision-NAME.json` and a page beside it
ranges    Scales of int8 from recordings
"""
