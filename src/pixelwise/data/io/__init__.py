"""Read and write image files: images, TIFF, DICOM, video, one file per channel."""
