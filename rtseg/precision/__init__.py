"""What lower precision costs a bundle.

compare  How far one engine's answers to a split are from another's: `compare_precisions`
measure  Whether a bundle may be stepped in float16 or int8: `measure_precisions`, `require_accepted`
ranges   Scales of int8 from recordings: `int8_scales`
report   The report as `precision-NAME.json` and as a page: `write_report`, `report_page`
"""
