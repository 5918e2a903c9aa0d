"""What runs left behind, as tables, pages and files for papers."""
