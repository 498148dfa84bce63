"""The elements that a database is asked for when perfusion series are looked for, as "gggg,eeee".

Written out, because Slicer asks for them when it starts and must not wait for a dictionary of all of DICOM.
"""

OF_A_SERIES = {
    "SOPClassUID": "0008,0016",
    "Modality": "0008,0060",
    "Manufacturer": "0008,0070",
    "SeriesDescription": "0008,103E",
    "PatientName": "0010,0010",
    "PatientID": "0010,0020",
    "PatientBirthDate": "0010,0030",
    "SliceThickness": "0018,0050",
    "ConvolutionKernel": "0018,1210",
    "StudyInstanceUID": "0020,000D",
    "SeriesInstanceUID": "0020,000E",
    "SeriesNumber": "0020,0011",
    "FrameOfReferenceUID": "0020,0052",
    "SamplesPerPixel": "0028,0002",
    "PhotometricInterpretation": "0028,0004",
    "RescaleType": "0028,1054",
    "GECreator": "0019,0010",
}
"""What all images of a series share."""
OF_AN_IMAGE = {
    "ImagePositionPatient": "0020,0032",
    "ImageOrientationPatient": "0020,0037",
    "ImageType": "0008,0008",
    "Rows": "0028,0010",
    "Columns": "0028,0011",
    "PixelSpacing": "0028,0030",
    "AcquisitionDateTime": "0008,002A",
    "AcquisitionTime": "0008,0032",
    "ContentTime": "0008,0033",
    "TriggerTime": "0018,1060",
    "TemporalPositionTimeOffset": "0020,930D",
    "TemporalPositionIdentifier": "0020,0100",
    "AcquisitionNumber": "0020,0012",
    "InstanceNumber": "0020,0013",
    "GEMidScanTime": "0019,1024",
}
"""What may differ from image to image."""
TAGS = {**OF_A_SERIES, **OF_AN_IMAGE}
