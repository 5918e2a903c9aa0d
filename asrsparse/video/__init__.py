"""From video files to mouth regions: decoding, faces, landmarks, cropping, and a contact sheet to check them by eye."""
