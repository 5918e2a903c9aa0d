"""OpenCV, limited to one thread; the other modules import `cv2` from here.

Preparation runs in parallel processes, so more threads would not help. And a process that is forked from one in which
OpenCV has started its threads waits for them forever.
"""

import cv2

__all__ = ["cv2"]

cv2.setNumThreads(1)
