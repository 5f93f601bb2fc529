"""What proves that no change of a row is ever overtaken: source, target, model, and their proof."""
