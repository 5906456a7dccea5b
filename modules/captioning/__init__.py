"""Image captioning: RNN, LSTM and Transformer decoders, attention, greedy decoding, sampling and beam search."""
