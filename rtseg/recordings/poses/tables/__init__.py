"""Tables of poses that say by the names of their columns what they hold.

columns     points_of: which columns are points, and of which animal; which say times, the rate or whose a row is
plain       read_poses_csv: plain CSV, for trackers whose own format is not read here, and SLEAP's CSV
ethovision  EthoVision's tracks, in cm and y upwards
workbook    read_pose_workbook: these tables, and DeepLabCut's, in Excel's workbooks
"""
