"""The machine below: files, log set-up, processor and versions, GPUs, shutdown. Knows nothing of animals or models.

capabilities What this operating system offers to a daemon, and what to do without: `why_no_recording`, `why_no_ipc`
child_process Modules of this package as processes of their own: `module_command`, `module_environment`
files        Files that are whole or not there: `write_atomically`, `write_json_atomically`, `replace_atomically`;
             files of strangers, bounded: `open_regular`, `read_bounded`
json_parser  JSON of strangers, parsed without stopping other threads: `parse_json`
log_limits   How many lines of one kind are logged, and how long they may be: `LineLimiter`, `clip_record`
log_setup    The log: text or JSON lines, written by a thread of its own: `background`
machine      Where, when and with what a result was made: `describe_run`, `commit`, `cpu_flags`, `boot_id`
nvidia       The NVIDIA GPUs of this machine, from the driver's own library: `gpus`, `Gpu`
peak_memory  How much memory a piece of work takes at its peak: `peak_memory`
shutdown     How a serving process ends: `stopped_by_signals`, time limits of draining
"""
