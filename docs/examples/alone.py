# alone.py
from tusd_py import create_app

app = create_app("./data")
