"""What float16 and int8 cost a bundle: ranges of what its products read, and answers beside float32's.

`ranges` finds the scales of int8 on one split of a data set, `measured` compares answers on another, `judge` does both
and writes down which precisions the bundle is accepted in.
"""
