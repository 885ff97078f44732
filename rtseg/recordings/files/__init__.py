"""What readers of every format need before they know what a file means.

probe  FileProbe: what a file shows of itself, by which its reader is chosen
text   read_text, read_lines: text files in the encodings and line ends that labs have
"""
