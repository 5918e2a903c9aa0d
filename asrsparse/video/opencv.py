"""OpenCV in one thread: processes share the work, and one that is forked off another with OpenCV's threads hangs."""

import cv2

__all__ = ["cv2"]

cv2.setNumThreads(1)
