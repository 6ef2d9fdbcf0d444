"""What a study is: its file, its facts, whether it may go on."""
