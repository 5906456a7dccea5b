"""Caption metrics: BLEU, ROUGE-L and CIDEr-D on PTB tokens."""
