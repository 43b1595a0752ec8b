//! What the kubectl plugin shows and does.
