"""Evaluation of motions that are made for an action of HumanAct12."""
