"""The paper's findings on a user's data: similarity curves, CKA, modality gap, and the study of the tail."""
