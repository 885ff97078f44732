"""The machine below: processor, GPUs, log set-up, shutdown.

files        Files that are whole or not there: `write_atomically`, `write_json_atomically`, `replace_atomically`
log_setup    Logging
machine      Where, when and with what a result was made
nvidia       Which NVIDIA GPUs this machine has, asked of the driver's own library
peak_memory  How much memory a piece of work takes at its peak: peak_memory
shutdown     How a serving process ends
"""
