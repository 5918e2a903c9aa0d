"""OpenCV, in one thread: work is shared among processes, and a process that was forked off one with OpenCV's threads hangs.

from asrsparse.cv import cv2
"""

import cv2

__all__ = ["cv2"]

cv2.setNumThreads(1)
